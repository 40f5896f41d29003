import atexit
import sys

atexit._run_exitfuncs()
print("after")
sys.exit(4)
