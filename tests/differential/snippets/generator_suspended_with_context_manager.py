import contextlib


@contextlib.contextmanager
def manager():
    print("enter")
    try:
        yield
    finally:
        print("leave")


m = manager()
m.__enter__()
print("main")
