import sys

sys.tracebacklimit = 1


def a():
    b()


def b():
    raise KeyError("x")


a()
