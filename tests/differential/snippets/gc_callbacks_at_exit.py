import gc
import os

gc.collect()
gc.callbacks.append(lambda phase, info: os.write(1, phase.encode() + b"\n"))
