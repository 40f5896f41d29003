import threading


def inner():
    print("inner")


def outer():
    threading.main_thread().join()
    try:
        threading.Thread(target=inner).start()
    except RuntimeError as error:
        print(error)


threading.Thread(target=outer).start()
