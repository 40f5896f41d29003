import os
import signal
import sys

for s in ("SIGQUIT", "SIGILL", "SIGFPE", "SIGBUS", "SIGTRAP", "SIGXCPU", "SIGCHLD", "SIGWINCH", "SIGURG"):
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        signal.raise_signal(getattr(signal, s))
        os._exit(0)
    print(s, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
