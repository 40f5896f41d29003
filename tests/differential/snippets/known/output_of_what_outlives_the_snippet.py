# By design: a run ends with the snippet's own process, and what still runs then is killed.
import os
import time

print("parent", flush=True)
if os.fork() == 0:
    time.sleep(0.3)
    os.write(1, b"child\n")
    os._exit(0)
os._exit(0)
