import sys


def __getattr__(name):
    print("asked for", name)
    raise AttributeError(name)


print("x")
