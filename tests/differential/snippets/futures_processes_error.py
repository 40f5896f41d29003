import concurrent.futures as cf
import multiprocessing as mp


def bad(x):
    raise ValueError(x)


if __name__ == "__main__":
    with cf.ProcessPoolExecutor(1, mp_context=mp.get_context("fork")) as pool:
        pool.submit(bad, 3).result()
