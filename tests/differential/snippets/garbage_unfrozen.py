import gc
import json
import random


class Cycle:
    def __init__(self):
        self.me = self

    def __del__(self):
        print("gone")


Cycle()
gc.unfreeze()
print(gc.collect() > 0)
for _ in range(3):
    gc.collect()
del json.dumps, random.Random.random
gc.collect()
print(json.loads("[1]"), random.randrange(1), "dumps" in vars(json))
print(callable(json.dumps) if hasattr(json, "dumps") else None)
