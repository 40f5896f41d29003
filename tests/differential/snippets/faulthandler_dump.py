import faulthandler
import sys
import threading


def f():
    faulthandler.dump_traceback(file=sys.stdout, all_threads=False)
    faulthandler.dump_traceback()


print(faulthandler.is_enabled())
sys.stdout.flush()
f()
