import sys


def step(i):
    if i == 0:
        raise ValueError
    sys.exit(7)


for i in range(2):
    try:
        step(i)
    except ValueError as error:
        sys.last_type, sys.last_value, sys.last_traceback = type(error), error, error.__traceback__
        sys.last_exc = error
