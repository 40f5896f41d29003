import os

f = os.fdopen(1, "w")
f.write("written to descriptor 1\n")
print("print")
