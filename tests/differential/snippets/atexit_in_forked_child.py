import atexit
import os
import sys

atexit.register(lambda: (print("atexit", os.getpid() == parent), sys.stdout.flush()))
parent = os.getpid()
print("main", flush=True)
pid = os.fork()
if pid:
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
