class A:
    def __del__(self):
        print("del")


def make():
    a = A()
    return lambda: a


g = make()
