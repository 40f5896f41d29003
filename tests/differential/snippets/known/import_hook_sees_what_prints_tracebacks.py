# By design, as above: the interpreter imports `traceback`, and what that needs, when it first
# has an exception to print (3.13), `threading` when a module first asks for it.
import sys


class Finder:
    @staticmethod
    def find_spec(name, path, target=None):
        print("find", name)


sys.meta_path.insert(0, Finder)
import threading
import tokenize

1 / 0
