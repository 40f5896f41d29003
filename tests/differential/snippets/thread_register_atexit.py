import threading

threading._register_atexit(print, "threading's own atexit")
print("end")
