import atexit


class A:
    def __del__(self):
        print("del")


a = A()
atexit.register(lambda g: print(sorted(k for k in g if "_" not in k)), globals())
