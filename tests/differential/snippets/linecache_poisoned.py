import linecache

linecache.cache[__file__] = (1, None, ["poisoned line\n"] * 20, __file__)
raise ValueError("shown with which line?")
