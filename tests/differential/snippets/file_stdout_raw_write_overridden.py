import os
import sys

raw = sys.stdout.buffer.raw
raw.write = lambda data: os.write(2, b"raw " + bytes(data)) - 4
print("x")
