import typing


class A:
    def f(self, x: "A", *y: int) -> typing.List["A"]: ...


T = typing.TypeVar("T")
print(typing.get_type_hints(A.f), T, T.__module__, typing.get_type_hints(__import__("__main__")))
print(typing.NamedTuple("P", [("x", int)])(1), typing.Protocol)
