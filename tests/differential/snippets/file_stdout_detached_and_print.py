import sys

out = sys.stdout
raw = out.detach()
raw.write(b"detached\n")
print("fails")
