import os

pid = os.fork()
if pid:
    print("parent", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
else:
    print("child")
