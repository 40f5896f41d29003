import gc

gc.collect()


class A:
    pass


a = A()
a.a = a
gc.set_debug(gc.DEBUG_SAVEALL)
del a
gc.collect()
print(len([g for g in gc.garbage if type(g) is A]))
