import os
import threading

event = threading.Event()
threading.Thread(target=event.wait).start()
pid = os.fork()
if pid == 0:
    os._exit(0)
os.waitpid(pid, 0)
event.set()
