import tracemalloc

print(tracemalloc.is_tracing())
tracemalloc.start()
x = [bytearray(1000) for _ in range(10)]
top = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, __file__)]).statistics("lineno")
print(top[0].traceback.format())
