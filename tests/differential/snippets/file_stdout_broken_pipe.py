# Line by line, so that print itself fails, as it does with pgexec's line buffering.
import os
import sys

sys.stdout.reconfigure(line_buffering=True)
r, w = os.pipe()
os.dup2(w, 1)
os.close(w)
os.close(r)
print("into a broken pipe")
