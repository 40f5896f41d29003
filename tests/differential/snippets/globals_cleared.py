import sys

print("a")
e = sys.exit
globals().clear()
