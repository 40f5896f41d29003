import abc


class A(abc.ABC):
    @abc.abstractmethod
    def f(self): ...


class B(A):
    def f(self):
        return 1


print(B().f(), isinstance(B(), A), A.__abstractmethods__)
A()
