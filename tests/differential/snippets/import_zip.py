import sys
import zipfile

with zipfile.ZipFile("lib.zip", "w") as z:
    z.writestr("inzip.py", "def f():\n    raise ValueError('in a zip')\n")
sys.path.insert(0, "lib.zip")
import inzip

print(inzip.__file__, type(inzip.__loader__))
inzip.f()
