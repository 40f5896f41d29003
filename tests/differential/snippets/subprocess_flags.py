import subprocess
import sys

code = "import sys, os; print(sys.flags, sys.path, sorted(os.environ), sys.stdout.errors, sorted(os.listdir('/proc/self/fd')))"
print(subprocess.check_output([sys.executable, "-c", code], text=True))
print(subprocess.check_output(["python3", "-m", "site"], text=True).replace("exists", ""))
