import os
import threading

# What threading does after a fork is done in those of the snippet's own making.
go = threading.Event()
thread = threading.Thread(target=go.wait, name="other")
thread.start()
print(threading.active_count(), threading.main_thread().native_id == os.getpid(), flush=True)
pid = os.fork()
if pid == 0:
    print(threading.enumerate() == [threading.main_thread()], thread.is_alive(), flush=True)
    print(threading.main_thread().native_id == os.getpid(), threading.get_native_id() == os.getpid(), flush=True)
    again = os.fork()
    if again == 0:
        print(threading.main_thread().native_id == os.getpid(), flush=True)
        os._exit(0)
    os.waitpid(again, 0)
    os._exit(0)
os.waitpid(pid, 0)
print(threading.active_count(), thread.is_alive())
go.set()
thread.join()
