import subprocess
import sys

print("first", flush=True)
subprocess.run([sys.executable, "-c", "import sys; print('second'); sys.stderr.write('err\\n')"])
print("third")
