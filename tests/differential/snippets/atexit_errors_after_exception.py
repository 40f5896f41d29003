import atexit

atexit.register(lambda: [][0])
raise KeyError("main")
