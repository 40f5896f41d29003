import ctypes

with open(__file__, "rb") as file:
    kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)
    callbacks = [kind(lambda x, i=i: x + i) for i in range(3000)]
    print(sum(callback(1) for callback in callbacks), len(file.read()))
