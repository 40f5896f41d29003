import os
import sys

print(repr(sys.stdin.readline()))
print(os.read(0, 100))
print(sys.stdin.read(3))
