import ctypes
import faulthandler

faulthandler.enable()
print("x", flush=True)


def crash():
    ctypes.string_at(0)


crash()
