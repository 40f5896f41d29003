import sys

names = ["__file__", "__cached__"]
for name in names:
    globals().pop(name, None)
sys.exit(9)
