import ctypes

libc = ctypes.CDLL(None)
libc.printf(b"through C stdio, %d, never flushed", 42)
