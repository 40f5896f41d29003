import atexit


class A:
    def __del__(self):
        print("del")


keep = []
atexit.register(lambda: keep.append(A()))
