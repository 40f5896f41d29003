class Base:
    def __del__(self):
        print("del", type(self).__name__)


class L(list, Base):
    pass


class D(dict, Base):
    pass


class S(str, Base):
    pass


x, y, z = L(), D(), S("s")
