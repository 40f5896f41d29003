# since 3.12
# What lived before the snippet is immortal there, for its pages of memory to stay shared.
import json
import sys

print(sys.getrefcount(json.dumps) < 1000)
