import threading


class A:
    def __del__(self):
        print("local gone")


local = threading.local()
local.a = A()
