import sys

print(1, 2, sep="-", end=";\n")
print()
print(*range(5), file=sys.stderr, flush=True)
print("x", file=None)
print("y", sep=1)
