import atexit


class A:
    def __del__(self):
        print("del")


atexit.register(print, "never")
atexit._clear()
a = A()
print("main")
