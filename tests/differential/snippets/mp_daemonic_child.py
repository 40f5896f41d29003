import multiprocessing as mp
import time


def work():
    time.sleep(30)


if __name__ == "__main__":
    p = mp.get_context("fork").Process(target=work, daemon=True)
    p.start()
    print("main ends")
