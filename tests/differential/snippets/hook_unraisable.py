import sys


class A:
    def __del__(self):
        raise ValueError("in del")


a = A()
del a
sys.unraisablehook = lambda info: print("unraisable", info.exc_value, info.err_msg)
a = A()
del a
b = A()
