"""The tuner against every fixed size, on the same traces with the same policy.

A fixed size is either a number of idle containers that is kept whatever happens (the server
with PGEXEC_POOL_AUTOSCALE=false, which still starts what those who wait need and lets go of it
after PGEXEC_IDLE_TIMEOUT_S), or a number of containers that never changes. What it costs is
container-seconds, what it gives is that fewer have to wait for a container.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.report import Section
from bench.tuner_plot import draw
from bench.tuner_traces import BURSTY, SHAPES, trace
from pgexec.advise_replay import replay
from pgexec.advise_trace import TraceError, read_trace
from pool.config import PoolConfig

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pgexec.advise_replay import Replayed
    from pgexec.advise_trace import Request

PLOT = Path(__file__).resolve().parent.parent / "docs" / "tuner.svg"
MOST = 16
"""Containers at most, as by default."""
FLOORS = (0, 1, 2, 4, 6, 8)
"""PGEXEC_POOL_MIN_IDLE of the tuner; 4 is the default."""
DEFAULT = 4


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


def compare(
    name: str,
    requests: Sequence[Request],
    *,
    floors: Iterable[int] = FLOORS,
    sizes: Iterable[int] = range(1, MOST + 1),
) -> Compared:
    """Replay a trace against every fixed size and against the tuner."""

    def point(size: int, *, most: int = MOST, autoscale: bool = False) -> Point:
        config = PoolConfig(min_idle=size, max_containers=most, autoscale=autoscale)
        return _point(size, replay(requests, config))

    sizes = list(sizes)
    return Compared(
        name,
        idle=[point(size) for size in (0, *sizes)],
        fixed=[point(size, most=size) for size in sizes],
        tuner=[point(size, autoscale=True) for size in floors],
    )


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


def table(compared: Compared) -> Section:
    """Return the figures of one trace, and what is wanted of them."""
    section = Section(f"The tuner on the trace {compared.name}")
    for one in compared.tuner:
        section.row(
            f"PGEXEC_POOL_MIN_IDLE={one.size}",
            containers=one.containers,
            waited_percent=100 * one.cold_ratio,
            fixed_waited_percent=100 * compared.against(one),
            mean_wait_ms=1000 * one.mean_wait_s,
        )
        if one.size == DEFAULT and compared.name in BURSTY:
            section.want_at_most(
                "waited, against fixed sizes of equal cost",
                one.cold_ratio / compared.against(one),
                1.0,
            )
    return section


def main(recorded: Path | None, seed: int) -> int:
    """Replay all shapes, or a recorded trace; print the figures and draw them."""
    try:
        traces = (
            {name: trace(name, seed) for name in SHAPES}
            if recorded is None
            else {recorded.stem: read_trace(recorded)}
        )
    except TraceError as error:
        print(f"bench: {error}")
        return 1
    found = []
    for name, requests in traces.items():
        found.append(compare(name, requests))
        table(found[-1]).show()
    plot = PLOT if recorded is None else Path(f"{recorded.stem}.svg")
    plot.write_text(draw(found), encoding="utf-8")
    print(f"\ndrawn in {plot.name}")
    return int(any(not one.met for each in found for one in table(each).wanted))


def _point(size: int, found: Replayed) -> Point:
    return Point(size, found.containers, found.cold_ratio, found.mean_wait_s)
