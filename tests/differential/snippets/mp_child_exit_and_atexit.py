import atexit
import multiprocessing as mp
import sys

atexit.register(print, "atexit")


def work():
    print("child", flush=True)
    sys.exit(4)


if __name__ == "__main__":
    p = mp.get_context("fork").Process(target=work)
    p.start()
    p.join()
    print(p.exitcode)
