import weakref


class A:
    pass


class R(weakref.ref):
    pass


a = A()
r = R(a, lambda ref: print("callback of a subclass"))
