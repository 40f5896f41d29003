import sys
import types


class A:
    def __del__(self):
        print("del")


a = A()
keep = sys.modules["__main__"]
sys.modules["__main__"] = types.ModuleType("other")
print("main")
