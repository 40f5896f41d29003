try:
    1 / 0
except ZeroDivisionError:
    raise KeyError("hidden cause") from None
