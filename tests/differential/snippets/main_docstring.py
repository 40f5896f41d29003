"""A docstring."""

print(__doc__)
print(__annotations__ if "__annotations__" in globals() else "none")
x: int = 1
print(__annotations__)
