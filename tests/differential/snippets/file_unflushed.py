import os

f = os.fdopen(os.dup(1), "w")
f.write("written to a file that nobody closes\n")
