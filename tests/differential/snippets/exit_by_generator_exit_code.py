import sys


def g():
    sys.exit(13)
    yield


list(g())
