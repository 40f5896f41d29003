import sys


class A:
    def __del__(self):
        print(sys is None, print is None, type(self).__name__)


A.keep = A()
