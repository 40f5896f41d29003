import multiprocessing as mp


def bad(x):
    return 1 / x


if __name__ == "__main__":
    with mp.get_context("fork").Pool(1) as pool:
        pool.map(bad, [1, 0])
