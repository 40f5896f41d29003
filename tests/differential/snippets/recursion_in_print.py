# print in the depths: a frame of the stream's own would count. Line by line, as pgexec's
# stdout is, because a flush counts, too.
import sys

sys.stdout.reconfigure(line_buffering=True)
sys.setrecursionlimit(100)


def f(n):
    print(n)
    f(n + 1)


f(0)
