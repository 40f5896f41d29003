import multiprocessing as mp

lock = mp.get_context("fork").Lock()
queue = mp.get_context("fork").SimpleQueue()
print("left open")
