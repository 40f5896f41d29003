# Line by line, so that print itself fails, as it does with pgexec's line buffering.
import os
import sys

sys.stdout.reconfigure(line_buffering=True)
os.close(1)
print("lost")
