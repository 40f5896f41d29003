import sys


class A:
    def __del__(self):
        sys.stdout.write("without newline, at the very end")


a = A()
