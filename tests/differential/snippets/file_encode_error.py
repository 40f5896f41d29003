import sys

sys.stdout.reconfigure(encoding="ascii", errors="strict")
print("ok")
print("größe")
