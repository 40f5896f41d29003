import sys


def g():
    try:
        yield 1
    finally:
        print("finally of the loop's generator")


for x in g():
    sys.exit(x + 4)
