import os
import sys

print("before", flush=True)
os.execv(sys.executable, ["python3", "-c", "import sys; print(sys.argv, sys.path[0]); sys.exit(4)"])
