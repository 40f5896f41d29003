import multiprocessing as mp


def work():
    raise ValueError("in a worker")


if __name__ == "__main__":
    p = mp.get_context("fork").Process(target=work)
    p.start()
    p.join()
    print(p.exitcode)
