import atexit
import sys

atexit.register(sys.exit, 7)
sys.exit(3)
