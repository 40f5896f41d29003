import multiprocessing as mp


def work(q, x):
    q.put((x * 2, mp.current_process().name, __name__))


print("module level", __name__, flush=True)
if __name__ == "__main__":
    ctx = mp.get_context("spawn")
    q = ctx.Queue()
    p = ctx.Process(target=work, args=(q, 21))
    p.start()
    print(q.get())
    p.join()
    print(p.exitcode)
