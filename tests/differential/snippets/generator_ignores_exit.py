def g():
    while True:
        try:
            yield 1
        except GeneratorExit:
            print("ignored")


it = g()
next(it)
