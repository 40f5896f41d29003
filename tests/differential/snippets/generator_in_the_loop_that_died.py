def g():
    try:
        yield 1
    finally:
        print("finally of the loop's generator")


for x in g():
    1 / x.bit_length.__self__ / 0
