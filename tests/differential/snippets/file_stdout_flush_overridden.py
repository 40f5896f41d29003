import os
import sys

sys.stdout.flush = lambda: os.write(2, b"flush\n")
