import sys

lazy import json
lazy import string
lazy from difflib import get_close_matches
lazy import no_such_module

print("difflib" in sys.modules, type(globals()["string"]).__name__)
print(json.dumps({"a": 1}), get_close_matches("appel", ["ape", "apple"]))
print(type(globals()["json"]).__name__, {"string", "json"} & set(sys.lazy_modules))


class A:
    def __del__(self):
        print("gone", string.digits)


a = A()
no_such_module.attribute
