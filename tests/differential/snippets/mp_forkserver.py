import multiprocessing as mp


def work(x):
    print("child", x, __name__, flush=True)


if __name__ == "__main__":
    ctx = mp.get_context("forkserver")
    p = ctx.Process(target=work, args=(5,))
    p.start()
    p.join()
    print(p.exitcode)
