import atexit


class A:
    def __del__(self):
        print("del")


atexit.register(print, "callback")
print("main")
atexit._run_exitfuncs()
print("after")
a = A()
