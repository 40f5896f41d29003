import gc


class A:
    def __del__(self):
        print("del of a frozen object")


a = A()
gc.freeze()
