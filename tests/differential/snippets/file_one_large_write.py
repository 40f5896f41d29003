import sys

sys.stdout.write("y" * 500_000)
print(sys.stdout.buffer.write(b"z" * 100_000))
