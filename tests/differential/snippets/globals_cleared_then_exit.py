import sys

e = sys.exit
g = globals()
f = lambda g=g, e=e: (g.clear(), e(4))
f()
