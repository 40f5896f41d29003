"""What sizes of the pool come to on a trace: cost against waits, as points and as curves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Point:
    """What one size came to: mean containers, and the share of requests that waited."""

    size: int
    containers: float
    cold_ratio: float
    mean_wait_s: float


@dataclass(frozen=True, slots=True)
class Compared:
    """The curves of one trace."""

    name: str
    idle: list[Point]  # so many idle, whatever happens
    fixed: list[Point]  # so many in all
    tuner: list[Point]

    def against(self, point: Point) -> float:
        """Return the cold ratio of the best fixed sizes that cost as much as this point."""
        return frontier([*self.idle, *self.fixed], point.containers)


def frontier(points: Sequence[Point], containers: float) -> float:
    """Return the lowest cold ratio that a mix of two of the points has at this cost.

    That is their lower convex hull: half of the time the one size, half the other.
    """
    lowest = min((one.cold_ratio for one in points if one.containers <= containers), default=1.0)
    for less in points:
        for more in points:
            if less.containers <= containers < more.containers:
                share = (containers - less.containers) / (more.containers - less.containers)
                mixed = less.cold_ratio + share * (more.cold_ratio - less.cold_ratio)
                lowest = min(lowest, mixed)
    return lowest
