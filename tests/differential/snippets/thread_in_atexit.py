import atexit
import threading


def at_exit():
    try:
        thread = threading.Thread(target=print, args=("from a thread at exit",))
        thread.start()
        thread.join()
    except RuntimeError as error:
        print(error)


atexit.register(at_exit)
