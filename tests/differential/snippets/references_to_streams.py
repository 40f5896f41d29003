import sys

for stream in sys.stdin, sys.stdout, sys.stderr:
    for part in stream, stream.buffer, getattr(stream.buffer, "raw", stream.buffer):
        print(sys.getrefcount(part) < 100)
