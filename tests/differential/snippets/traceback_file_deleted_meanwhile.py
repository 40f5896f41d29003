import os

os.remove(__file__)
raise RuntimeError("the source has gone")
