# Line by line, so that print itself fails, as it does with pgexec's line buffering.
import os
import sys

sys.stdout.reconfigure(line_buffering=True)
r, w = os.pipe()
os.set_blocking(w, False)
os.dup2(w, 1)
try:
    for i in range(100):
        print("x" * 10_000)
except BlockingIOError as error:
    sys.stderr.write(f"{error} {error.characters_written > 0}\n")
os.read(r, 1 << 20)
