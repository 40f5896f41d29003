"""What the tuner's choice of the moment is worth, and why by chance it is worth nothing.

Let w(n) be how many of a burst have to wait when n containers stand ready as it begins. The
more there are, the less another one helps: w is convex. Where bursts come by chance (a Poisson
process, sizes independent), what has been says nothing of what comes, so that whatever rule
sets the number N that stands ready from the past, a burst finds it as any other moment does
(PASTA), and E[w(N)] >= w(E[N]) by Jensen's inequality: no rule waits less than the constant
number of the same mean, and each that lets N vary waits more. That is about what stands ready
as a burst begins; what is started while it lasts is the same for all that are compared. What is
lost is the price of being ready for bursts that do come in packs or at set times.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import fmean
from typing import TYPE_CHECKING

from pgexec.advise.replay import replay

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgexec.advise.traces import Request
    from pool.config import PoolConfig

QUIET_S = 5.0
"""A request that comes so long after the one before begins a burst."""


@dataclass(frozen=True, slots=True)
class Worth:
    """Shares of all requests that wait, by what stands ready as each burst begins.

    `tuned` is as the tuner has it, `untimed` with the same numbers for as long, but at other
    times, which have nothing to do with when bursts come, `constant` with their mean always.
    """

    tuned: float
    untimed: float
    constant: float


def worth(traces: Sequence[Sequence[Request]], config: PoolConfig) -> Worth:
    """Tell what it is worth when the tuner has how many containers ready."""
    bursts: list[Sequence[Request]] = []
    ready: list[int] = []
    ready_s: Counter[int] = Counter()
    for requests in traces:
        found = replay(requests, config)
        ready_s.update({number: round(1000 * s) for number, s in found.ready_s.items()})
        gaps = (later.at_s - one.at_s for one, later in pairwise(requests))
        starts = [0, *(number for number, gap in enumerate(gaps, 1) if gap > QUIET_S)]
        ready += [found.ready[start] for start in starts]
        bursts += [requests[a:b] for a, b in pairwise([*starts, len(requests)])]
    waits = [
        [_waits(burst, number, config) for number in range(config.max_containers + 1)]
        for burst in bursts
    ]
    of_number = [fmean(column) for column in zip(*waits, strict=True)]
    mean = sum(number * s for number, s in ready_s.items()) / ready_s.total()
    untimed = sum(of_number[number] * s for number, s in ready_s.items()) / ready_s.total()
    of_burst = fmean(map(len, bursts))
    return Worth(
        tuned=fmean(own[number] for own, number in zip(waits, ready, strict=True)) / of_burst,
        untimed=untimed / of_burst,
        constant=_between(of_number, mean) / of_burst,
    )


def _waits(burst: Sequence[Request], ready: int, config: PoolConfig) -> int:
    """Return how many of a burst wait where so many containers stand ready and nothing is known."""
    enough = ready >= len(burst)  # one for each: most bursts are small, and replays are not free
    return 0 if enough else replay(burst, replace(config, min_idle=ready)).cold


def _between(values: Sequence[float], at: float) -> float:
    below = min(int(at), len(values) - 2)
    return values[below] + (at - below) * (values[below + 1] - values[below])
