import atexit
import sys


def restore():
    sys.modules["__main__"].__file__ = "again"


atexit.register(restore)
sys.exit(2)
