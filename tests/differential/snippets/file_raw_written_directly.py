import sys

sys.stderr.write("first\n")
print(sys.stderr.buffer.raw.write(b"raw stderr\n"), flush=True)
print(sys.stdout.buffer.raw.write(b"raw stdout\n"), sys.stdout.buffer.raw.write(memoryview(b"view\n")))
