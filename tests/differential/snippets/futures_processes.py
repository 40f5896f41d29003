import concurrent.futures as cf
import multiprocessing as mp


def f(x):
    return x + 1


if __name__ == "__main__":
    with cf.ProcessPoolExecutor(2, mp_context=mp.get_context("fork")) as pool:
        print(list(pool.map(f, range(4))))
