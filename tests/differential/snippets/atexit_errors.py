import atexit


def bad():
    raise ValueError("at exit")


atexit.register(print, "still called")
atexit.register(bad)
print("main")
