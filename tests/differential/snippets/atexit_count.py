import atexit

print(atexit._ncallbacks() <= 8)
atexit.register(print, 1)
atexit.unregister(print)
