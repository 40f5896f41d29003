import _thread
import threading
import time

threading.Timer(0.1, _thread.interrupt_main).start()
for _ in range(500):
    time.sleep(0.01)
