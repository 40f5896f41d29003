import os
import signal
import time

seen = []
signal.signal(signal.SIGCHLD, lambda n, f: seen.append(n))
pid = os.fork()
if pid == 0:
    os._exit(0)
os.waitpid(pid, 0)
time.sleep(0.01)
print(seen)
