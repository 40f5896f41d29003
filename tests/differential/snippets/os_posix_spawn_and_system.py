import os
import sys

sys.stdout.write("first\n")
sys.stdout.flush()
print(os.system("echo from the shell; exit 3"), flush=True)
pid = os.posix_spawn("/bin/echo", ["echo", "spawned"], os.environ)
print(os.waitpid(pid, 0)[1])
print(os.popen("echo popen").read())
