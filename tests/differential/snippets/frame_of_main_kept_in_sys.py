import sys

sys.kept = sys._getframe()


class A:
    def __del__(self):
        print("del")


a = A()
