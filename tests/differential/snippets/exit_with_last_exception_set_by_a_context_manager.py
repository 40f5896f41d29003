# The traceback kept here ends at the very instruction at which sys.exit leaves later: `with`
# raises SystemExit again from where it came.
import sys


class Keep:
    def __enter__(self):
        pass

    def __exit__(self, kind, error, trace):
        if kind is ValueError:
            sys.last_type, sys.last_value, sys.last_traceback = kind, error, trace
            sys.last_exc = error
            return True


def step(i):
    if i == 0:
        raise ValueError
    sys.exit(7)


for i in range(2):
    with Keep():
        step(i)
