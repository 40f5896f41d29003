from __future__ import annotations

import dataclasses
import typing


@dataclasses.dataclass(order=True)
class Point:
    x: int
    y: "float" = 0.5
    z: list[Point] | None = None


print(Point(1), typing.get_type_hints(Point), Point.__annotations__, Point(1) < Point(2))
Point()
