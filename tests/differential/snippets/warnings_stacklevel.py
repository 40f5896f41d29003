import warnings


def f():
    warnings.warn("at the caller", stacklevel=2)


def g():
    warnings.warn("far away", stacklevel=9)


f()
g()
