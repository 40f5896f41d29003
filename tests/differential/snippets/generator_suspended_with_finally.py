def g():
    try:
        yield 1
    finally:
        print("finally of a suspended generator")


it = g()
print(next(it))
