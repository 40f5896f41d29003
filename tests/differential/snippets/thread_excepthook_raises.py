import threading


def hook(args):
    raise RuntimeError("hook")


threading.excepthook = hook
thread = threading.Thread(target=lambda: 1 / 0, name="t")
thread.start()
thread.join()
