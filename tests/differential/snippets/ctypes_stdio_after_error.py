import ctypes

libc = ctypes.CDLL(None)
libc.puts(b"through C stdio")
1 / 0
