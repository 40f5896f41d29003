class A:
    def __getattr__(self, name):
        return getattr(self, name)


try:
    A().x
except RecursionError as error:
    print(error)
class B:
    def __del__(self):
        self.__del__()
b = B()
del b
