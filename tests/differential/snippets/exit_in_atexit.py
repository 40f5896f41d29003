import atexit
import sys

atexit.register(print, "registered first, printed last")
atexit.register(sys.exit, 7)
