# Line by line, as pgexec's stdout is.
import os
import sys

sys.stdout.reconfigure(line_buffering=True)
print("a whole line")
sys.stdout.write("half a line")
os._exit(0)
