import importlib.abc
import importlib.machinery
import sys


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path, target=None):
        print("find", name)
        if name == "virtual":
            return importlib.machinery.ModuleSpec(name, self)

    def exec_module(self, module):
        module.x = 1


sys.meta_path.insert(0, Finder())
import virtual

print(virtual.x)
try:
    import no_such_thing
except ImportError as error:
    print(error)
