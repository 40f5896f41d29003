import multiprocessing as mp


def work():
    print("child")


ctx = mp.get_context("spawn")
p = ctx.Process(target=work)
p.start()
p.join()
