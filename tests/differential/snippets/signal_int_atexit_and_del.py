import atexit
import signal


class A:
    def __del__(self):
        print("del")


a = A()
atexit.register(print, "atexit")
signal.raise_signal(signal.SIGINT)
