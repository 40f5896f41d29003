import atexit
import sys

atexit.register(lambda: sys.stdout.write("no newline"))
