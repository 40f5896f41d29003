import importlib.util
import sys

print(importlib.util.find_spec("Main"))
try:
    print(importlib.util.find_spec("__main__"))
except ValueError as error:
    print(error)
