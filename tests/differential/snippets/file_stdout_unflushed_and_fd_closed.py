import os
import sys

sys.stdout.write("lost")
os.close(1)
