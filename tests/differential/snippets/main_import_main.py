import __main__

__main__.x = 5
print(x, __main__.__file__)
import importlib

try:
    importlib.reload(__main__)
except ImportError as error:
    print(error)
