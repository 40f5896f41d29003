import ctypes

f = ctypes.CFUNCTYPE(ctypes.c_int)(lambda: 1 / 0)
f()
