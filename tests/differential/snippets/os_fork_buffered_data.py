# Without a newline, so that it is buffered with pgexec's line buffering as well.
import os
import sys

sys.stdout.write("buffered once, ")
pid = os.fork()
if pid:
    os.waitpid(pid, 0)
