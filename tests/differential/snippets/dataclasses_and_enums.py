import dataclasses
import enum
import typing


class Colour(enum.Enum):
    RED = 1


@dataclasses.dataclass(frozen=True, slots=True)
class A:
    c: Colour = Colour.RED
    t: typing.Optional[int] = dataclasses.field(default=None, repr=False)


class N(typing.NamedTuple):
    x: int


print(A(), N(1), Colour.RED, repr(Colour("x") if False else Colour(1)), A.__module__, N.__module__)
A().c = 2
