class A:
    __slots__ = ()

    def __del__(self):
        print("del of an object that the collector does not track")


a = A()
