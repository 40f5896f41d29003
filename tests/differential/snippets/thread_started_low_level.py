import _thread
import time


def work():
    raise ValueError("low level")


_thread.start_new_thread(work, ())
time.sleep(0.2)
print("end")
