import sys


class A:
    def __del__(self):
        print("del in sys")


sys.mine = A()
