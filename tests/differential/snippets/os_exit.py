import os

print("flushed", flush=True)
print("never seen", end="")
os._exit(3)
