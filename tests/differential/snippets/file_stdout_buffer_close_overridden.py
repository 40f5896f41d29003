import os
import sys

sys.stdout.buffer.raw.close = lambda: os.write(2, b"close of the raw stdout\n")
sys.stderr.buffer.close = lambda: os.write(2, b"close of the stderr buffer\n")
