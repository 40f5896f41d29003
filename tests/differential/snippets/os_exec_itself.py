import os
import sys

print("run", len(sys.argv), flush=True)
if len(sys.argv) < 3:
    os.execv(sys.executable, sys.orig_argv + ["again"])
