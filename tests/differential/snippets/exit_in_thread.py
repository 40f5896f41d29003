import threading

thread = threading.Thread(target=lambda: exit(3))
thread.start()
thread.join()
print("still here")
