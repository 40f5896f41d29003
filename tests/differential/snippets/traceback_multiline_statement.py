def f(*args):
    raise ValueError(
        "a message\nof two lines",
        args,
    )


f(
    1,
    f"{'x' * 3}",
)
