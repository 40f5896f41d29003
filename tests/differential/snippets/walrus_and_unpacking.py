print([y := 1, y**2], (lambda *a, **k: (a, k))(*"ab", **{"c": 1}))
a, *b = range(4)
print(f"{a=} {b!r:>12} {'nested'!r}")
print(f"{a!x}")
