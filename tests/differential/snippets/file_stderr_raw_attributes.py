import sys

sys.stderr.write("x\n")
print(sorted(vars(sys.stderr.buffer.raw)), sorted(vars(sys.stderr.buffer)))
