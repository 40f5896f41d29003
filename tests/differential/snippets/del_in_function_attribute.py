class A:
    def __del__(self):
        print("del")


def f():
    pass


f.attribute = A()
