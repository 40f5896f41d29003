import weakref


class A:
    pass


a = A()
weakref.finalize(a, print, "finalized at exit")
b = A()
weakref.finalize(b, print, "finalized at once")
del b
c = A()
weakref.finalize(c, print, "not at exit").atexit = False
