import signal


def f():
    signal.raise_signal(signal.SIGINT)
    return 1


try:
    f()
finally:
    print("cleanup", flush=True)
