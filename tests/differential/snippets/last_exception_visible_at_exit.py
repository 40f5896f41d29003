import atexit
import sys


def show():
    print([name for name in ("last_type", "last_value", "last_traceback") if hasattr(sys, name)])
    print(sys.last_value, sys.last_traceback.tb_lineno)


atexit.register(show)
raise LookupError("x")
