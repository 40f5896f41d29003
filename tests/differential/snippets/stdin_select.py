import os
import select
import stat
import sys

print(select.select([sys.stdin], [], [], 5)[0] == [sys.stdin], stat.S_ISFIFO(os.fstat(0).st_mode))
print(sys.stdin.readline())
