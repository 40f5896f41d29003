import threading


def work():
    int("x")


thread = threading.Thread(target=work, name="worker")
thread.start()
thread.join()
