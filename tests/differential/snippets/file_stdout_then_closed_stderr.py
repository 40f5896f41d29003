import os
import sys

print("stdout", flush=True)
os.close(2)
try:
    sys.stderr.write("lost\n")
except OSError as error:
    print(error)
