import copyreg
import linecache
import os
import re
import sys
import warnings


class Left(str):
    def __del__(self, write=os.write):
        write(1, b"let go\n")


sys.path.append(Left("a"))
sys.meta_path.append(Left("b"))
sys.path_hooks.append(Left("c"))
sys.argv.append(Left("d"))
sys.warnoptions.append(Left("e"))
sys.path_importer_cache["f"] = Left("f")
warnings.filters.append(Left("g"))
re._cache["h"] = Left("h")
linecache.cache["i"] = Left("i")
copyreg.dispatch_table[int] = Left("j")
