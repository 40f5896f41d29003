"""Traces made up by seed: the shapes that demand comes in."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING

from pgexec.advise.traces import Request
from pool.sizing.recycling import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SPAN_S = 3 * 3600.0
HELD_S = 0.4
"""The median time that a run holds its container, where the trace says nothing else."""
FAILING = 0.02
"""The share of runs that time out or are killed, so that their container is destroyed."""


def steady(rng: random.Random) -> Iterator[float]:
    """Arrive one after the other, independently: a Poisson process."""
    yield from _poisson(rng, lambda _: 0.8, 0.8)


def bursty(rng: random.Random) -> Iterator[float]:
    """Be quiet for long, then busy: clusters of heavy-tailed sizes, one soon after another."""
    at = 0.0
    while (at := at + rng.expovariate(1 / 1200)) < SPAN_S:
        until = at + rng.expovariate(1 / 600)
        while (at := at + rng.expovariate(1 / 20)) < until:
            yield from _cluster(rng, at)


def chance(rng: random.Random) -> Iterator[float]:
    """Come in clusters at times that nothing foretells."""
    at = 0.0
    while (at := at + rng.expovariate(1 / 240)) < SPAN_S:
        yield from _cluster(rng, at)


def diurnal(rng: random.Random) -> Iterator[float]:
    """Follow a day's curve, three hours long, with a busy hour and a quiet one."""
    yield from _poisson(rng, lambda at: 0.02 + 3 * math.sin(math.pi * at / SPAN_S) ** 4, 3.1)


def herd(rng: random.Random) -> Iterator[float]:
    """Arrive together, a dozen every ten minutes, as cron sends them, and hardly between."""
    yield from _poisson(rng, lambda _: 0.02, 0.02)
    for fire in range(200, int(SPAN_S), 600):
        for _ in range(rng.randint(9, 13)):
            yield fire + rng.random() * 0.05


def azure(rng: random.Random) -> Iterator[float]:
    """Have the shape of the Azure Functions trace of 2019.

    Some functions are called most of the time and most hardly ever; three in ten are called by
    timers, which fire at whole minutes (Shahrad et al., USENIX ATC 2020, figures 2 to 5).
    The trace begins at some moment of an hour: not when all of them fire at once.
    """
    begin = rng.randrange(3600)
    for _ in range(60):
        if rng.random() < 0.3:
            period = rng.choice((60, 300, 300, 600, 900, 900, 1800, 3600))
            for fire in range(-begin % period, int(SPAN_S), period):
                yield fire + rng.random() * 0.3
        else:
            per_s = min(0.2, 0.0003 * rng.paretovariate(0.6))
            yield from _poisson(rng, lambda _, per_s=per_s: per_s, per_s)  # type: ignore[misc]


SHAPES: dict[str, Callable[[random.Random], Iterator[float]]] = {
    "steady": steady,
    "bursty": bursty,
    "chance": chance,
    "diurnal": diurnal,
    "herd": herd,
    "azure": azure,
}
BURSTY = ("bursty", "herd", "azure")


def trace(shape: str, seed: int) -> list[Request]:
    """Return the trace of a shape; the same for the same seed."""
    rng = random.Random(f"{shape} {seed}")
    arrivals = sorted(at for at in SHAPES[shape](rng) if at < SPAN_S)
    return [
        Request(
            at_s=at,
            held_s=min(20.0, HELD_S * rng.lognormvariate(0, 1)),
            outcome=Outcome.TIMEOUT if rng.random() < FAILING else Outcome.OK,
        )
        for at in arrivals
    ]


def _cluster(rng: random.Random, at: float) -> Iterator[float]:
    for _ in range(min(30, int(3 * rng.paretovariate(1.3)))):
        yield at + rng.expovariate(2.0)


def _poisson(rng: random.Random, per_s: Callable[[float], float], most: float) -> Iterator[float]:
    """Arrive at a rate that varies, never above `most` a second, by thinning."""
    at = 0.0
    while (at := at + rng.expovariate(most)) < SPAN_S:
        if rng.random() * most < per_s(at):
            yield at
