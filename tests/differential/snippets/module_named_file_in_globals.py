__file__ = "other.py"
print(__file__)
