import gc
import os
import sys
import weakref

_exit = os._exit
os._exit = lambda code: (sys.stdout.write(f"os._exit({code})\n"), sys.stdout.flush(), _exit(99))
gc.get_objects = lambda: 1 / 0
weakref.ref = None
print("main")
