import threading
import time


def work():
    time.sleep(0.1)
    print("late")


threading.Thread(target=work).start()
raise ValueError("main died")
