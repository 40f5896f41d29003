import os
import weakref


class A:
    pass


a = A()
r = weakref.ref(a, lambda ref: os._exit(6))
