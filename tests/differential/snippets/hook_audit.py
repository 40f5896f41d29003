import os
import sys

sys.addaudithook(lambda name, args: name in ("os.remove", "os.mkdir") and print("audit", name))
os.mkdir("d")
open("f", "w").close()
os.remove("f")
