import abc


class Base(abc.ABC):
    registry = []

    def __init_subclass__(cls, **kwargs):
        cls.registry.append(cls.__name__)


class A(Base):
    pass


Base.register(int)
print(Base.registry, isinstance(1, Base), A.__subclasses__())
