import gc
import os

gc.get_objects = lambda: 1 / 0
os._exit = lambda code: print("os._exit", code)
1 / 0
