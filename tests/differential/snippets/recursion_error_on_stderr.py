import sys

sys.setrecursionlimit(100)
sys.stderr.write("stderr's turn\n")


def f(n):
    sys.stderr.write(f"{n}\n")
    f(n + 1)


f(0)
