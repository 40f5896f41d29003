import os

pid = os.fork()
if pid:
    os.waitpid(pid, 0)
raise SystemExit("parent" if pid else "child")
