import subprocess
import sys

r = subprocess.run([sys.executable, "-c", "import sys; print(sys.argv, sys.path[0]); sys.exit(3)"], capture_output=True, text=True)
print(r.returncode, r.stdout, r.stderr)
r = subprocess.run([sys.executable, "-c", "1/0"], capture_output=True, text=True)
print(r.returncode, r.stdout, r.stderr)
subprocess.run(["false"], check=True)
