import sys

frame = sys._getframe()


class A:
    def __del__(self):
        print("del", frame is None)


a = A()
