from multiprocessing import shared_memory

s = shared_memory.SharedMemory(create=True, size=100)
s.buf[0] = 7
print(s.buf[0], s.size >= 100)
s.close()
s.unlink()
