class A:
    def __del__(self):
        print("del of a local")


def f():
    a = A()
    raise ValueError("keeps the frame")


f()
