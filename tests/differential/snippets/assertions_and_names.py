assert __debug__
assert 1 == 2, f"one is not {2}"
