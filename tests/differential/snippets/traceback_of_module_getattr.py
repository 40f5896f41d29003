import sys
import types


class Lazy(types.ModuleType):
    def __getattr__(self, name):
        raise AttributeError(f"lazy {name}")


sys.modules[__name__].__class__ = Lazy
import __main__

__main__.nothing
