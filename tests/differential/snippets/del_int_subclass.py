class I(int):
    __slots__ = ()

    def __del__(self):
        print("del of an int")


i = I(5)
