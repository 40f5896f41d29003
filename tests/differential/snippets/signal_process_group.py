import os
import signal

print("x", flush=True)
os.killpg(0, signal.SIGTERM)
