import concurrent.futures as cf

with cf.ThreadPoolExecutor(3) as pool:
    print(list(pool.map(lambda x: x * x, range(5))))
    print(repr(pool.submit(int, "x").exception()))
pool = cf.ThreadPoolExecutor(1)
f = pool.submit(print, "not shut down")
