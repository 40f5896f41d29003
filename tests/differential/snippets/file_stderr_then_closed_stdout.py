# The first write to stdout after one to stderr, where it fails.
import os
import sys

sys.stdout.reconfigure(line_buffering=True)
sys.stderr.write("stderr\n")
os.close(1)
print("lost")
