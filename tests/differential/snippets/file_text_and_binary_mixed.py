import sys

print("text")
sys.stdout.flush()
sys.stdout.buffer.write(b"binary\n")
sys.stdout.buffer.flush()
print("text again", end="")
