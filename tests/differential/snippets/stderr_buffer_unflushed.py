import sys

sys.stderr.buffer.write(b"bytes that nobody flushes")
