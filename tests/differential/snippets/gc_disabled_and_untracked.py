import gc


class A:
    def __del__(self):
        print("del")


gc.disable()
t = (A(),)
