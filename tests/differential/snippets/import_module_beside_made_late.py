import importlib
import os
import sys

try:
    import late
except ImportError as error:
    print(error)
os.makedirs("pkg/sub")
for name in ("pkg/__init__.py", "pkg/sub/__init__.py"):
    open(name, "w").write("print(__name__, __path__)\n")
open("late.py", "w").write("x = 1\n")
importlib.invalidate_caches()
import late
import pkg.sub

print(sorted(os.listdir()), sorted(n for n in os.listdir("__pycache__")))
