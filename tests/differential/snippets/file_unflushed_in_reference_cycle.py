import os

f = os.fdopen(os.dup(2), "w")
f.write("in a cycle\n")
cycle = [f]
cycle.append(cycle)
del f
