def f(x):
    """Does something."""


help(f)
help("nonsense-topic")
