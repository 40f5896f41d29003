import sys
import types


class M(types.ModuleType):
    def __del__(self):
        print("module gone")


sys.modules["mine"] = M("mine")
