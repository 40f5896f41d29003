import atexit

atexit.register(lambda: atexit.register(print, "registered at exit"))
