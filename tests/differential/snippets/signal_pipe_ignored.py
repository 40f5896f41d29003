import signal

signal.raise_signal(signal.SIGPIPE)
print("ignored")
