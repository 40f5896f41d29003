class A:
    def __del__(self):
        print("del")


def f(x=A()):
    pass
