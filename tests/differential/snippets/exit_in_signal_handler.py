import os
import signal
import sys

signal.signal(signal.SIGUSR1, lambda n, f: sys.exit(n))
os.kill(os.getpid(), signal.SIGUSR1)
print("not reached")
