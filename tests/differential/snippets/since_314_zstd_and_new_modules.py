import compression.zstd
import pathlib
import string.templatelib
import sys

data = compression.zstd.compress(b"x" * 1000)
print(len(data), compression.zstd.decompress(data) == b"x" * 1000)
file = compression.zstd.open("/dev/stdout", "wb")
file.write(b"unflushed")
print(sys.flags.utf8_mode, open(__file__).encoding, sys._jit.is_enabled())
