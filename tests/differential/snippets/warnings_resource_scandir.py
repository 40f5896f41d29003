import os
import warnings

warnings.simplefilter("always")
open("a", "w").close()
it = os.scandir(".")
next(it)
