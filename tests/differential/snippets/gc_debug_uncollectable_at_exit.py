import gc


class A:
    pass


a = A()
gc.garbage.append(a)
gc.set_debug(gc.DEBUG_UNCOLLECTABLE)
