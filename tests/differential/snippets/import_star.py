from math import *
from os.path import *

print(pi, join("a", "b"), "__all__" in globals())
print(sorted(n for n in globals() if n.startswith("__")))
