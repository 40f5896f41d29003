import io
import os
import sys

sys.stdout = io.TextIOWrapper(io.FileIO(os.dup(1), "w"), encoding="utf-8")
print("through a replaced stdout, never flushed")
