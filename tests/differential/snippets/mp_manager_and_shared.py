import multiprocessing as mp


def add(d, v):
    d["x"] = 1
    with v.get_lock():
        v.value += 5


if __name__ == "__main__":
    ctx = mp.get_context("fork")
    v = ctx.Value("i", 0)
    with ctx.Manager() as m:
        d = m.dict()
        p = ctx.Process(target=add, args=(d, v))
        p.start()
        p.join()
        print(dict(d), v.value)
