import sys

for name in [name for name in globals() if name.startswith("__") and name != "__name__"]:
    del globals()[name]
sys.exit(20)
