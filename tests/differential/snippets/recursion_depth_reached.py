import sys


def f(n):
    global deepest
    deepest = n
    f(n + 1)


try:
    f(1)
except RecursionError:
    print(deepest)
sys.setrecursionlimit(200)
try:
    f(1)
except RecursionError:
    print(deepest)
