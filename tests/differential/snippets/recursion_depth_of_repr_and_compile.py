x = []
for _ in range(100_000):
    x = [x]
try:
    repr(x)
except RecursionError as error:
    print(error)
for n in (50, 80, 90, 95, 99, 100, 150, 190, 199, 200, 1000, 5000):
    try:
        compile("(" * n + ")" * n, "x", "eval")
        compile("-" * n + "1", "x", "eval")
        print(n, "ok")
    except (RecursionError, MemoryError, SyntaxError) as error:
        print(n, type(error), str(error)[:40])
