import threading
import time

started = threading.Event()


def work():
    started.set()
    try:
        time.sleep(10)
    finally:
        print("never")


threading.Thread(target=work, daemon=True).start()
started.wait()
