# By design, as above: a file of its name comes too late for a module that is there already.
with open("json.py", "w") as f:
    f.write("print('mine')\n")
import json

print(json.__file__)
