import concurrent.futures as cf


def bad():
    raise KeyError("in a pool")


with cf.ThreadPoolExecutor(1) as pool:
    pool.submit(bad).result()
