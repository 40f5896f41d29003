import gc
import sys

print(sys.getrefcount(globals()) < 9, len([r for r in gc.get_referrers(globals()) if type(r) is list]))
