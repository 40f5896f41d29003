import sys

for f in (sys.stdin, sys.stdout, sys.stderr):
    print(f.name, f.mode, f.encoding, f.errors, f.newlines, f.closed, f.isatty(), f.fileno())
    print(f.readable(), f.writable(), f.seekable(), f.write_through, type(f), type(f.buffer))
    print(type(f.buffer.raw), f.buffer.raw.name, f.buffer.raw.mode, f.buffer.raw.closefd, f.buffer.name)
    print(repr(f), repr(f.buffer.raw), sorted(vars(f)), getattr(f.buffer.raw, "_blksize", 0))
print(sys.stdout is sys.__stdout__, sys.stderr is sys.__stderr__, sys.stdin is sys.__stdin__)
