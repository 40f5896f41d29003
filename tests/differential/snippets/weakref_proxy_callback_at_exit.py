import weakref


class A:
    pass


a = A()
p = weakref.proxy(a, lambda ref: print("callback of a proxy"))
print("main")
