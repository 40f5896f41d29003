def g():
    try:
        yield 1
    finally:
        print("finally in a dead frame")


def f():
    it = g()
    next(it)
    raise ValueError("keeps the frame")


f()
