import os
import threading
import warnings

warnings.simplefilter("ignore")


def work():
    pid = os.fork()
    if pid == 0:
        print("child", threading.current_thread() is threading.main_thread(), flush=True)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


t = threading.Thread(target=work)
t.start()
t.join()
