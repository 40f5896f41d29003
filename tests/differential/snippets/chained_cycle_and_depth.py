a, b = ValueError("a"), ValueError("b")
a.__cause__ = b
b.__cause__ = a
try:
    raise a
except ValueError:
    raise TypeError("end")
