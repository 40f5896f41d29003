"""Decide how many containers to keep idle: as demand asks, within the settings. Pure.

Four numbers determine how many containers should exist (`containers`):

- level: the most that were in use at once during the last `idle_timeout_s`. It rises at once, and
  falls only after that time without need; there is no other hysteresis.
- growth: level minus the most of the half hour before, if it is more. Demand that has just
  outgrown the long window is likely to go on growing.
- expected: the most that a timer will need soon. A burst that came twice at the same interval is
  expected a third time, because schedulers fire on the minute, the quarter and the hour (Shahrad et
  al., Serverless in the Wild, USENIX ATC 2020, section 3).
- away: the containers that are being replaced, by Little's law: arrivals a second, times the share
  of leases that destroy their container, times the seconds to start one.

Minus the containers in use, this is the number of idle containers. Example: at most 6 were in use,
4 before, no timer, all are recycled: 6 + 2 = 8 should exist. If 5 are in use, 3 should be idle.
docs/tuning.md compares this with fixed sizes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pool.config import PoolConfig

INTERVALS_S = (60, 300, 600, 900, 1800, 3600)
"""The intervals of the timers that `expected` finds."""
MEMORY_S = 2 * 3600 + 64
"""The meter remembers so many seconds: twice the longest interval, and a margin beside it."""
BEFORE_S = 1800
"""The long window with which the present level is compared, in seconds."""
AHEAD_S = 2.0
"""The containers for a timer should be idle so many seconds before it fires."""
MARGIN = 2.0
"""So many standard deviations (of a Poisson process) are added to the containers that are away."""


@dataclass(frozen=True, kw_only=True)
class Demand:
    """The demand on the pool, on which `target` depends.

    `short_per_s` and `long_per_s` are arrivals a second, over a short and a long window. `level`,
    `before` and `expected` are the most containers needed at once: during the last
    `idle_timeout_s`, during the half hour before that, and soon. `start_s` is the seconds to start
    a container. `recycled` is the share of leases after which the container was used again. Time
    alone changes nothing before `until`.
    """

    short_per_s: float = 0.0
    long_per_s: float = 0.0
    level: int = 0
    before: int = 0
    expected: int = 0
    start_s: float = 0.0
    recycled: float = 1.0
    until: float = math.inf

    @cached_property  # asked with each plan, while the demand is the same for a second
    def containers(self) -> int:
        """How many containers should exist, with those in use."""
        per_s = max(self.short_per_s, self.long_per_s)
        away = per_s * (1.0 - self.recycled) * self.start_s
        growth = max(0, self.level - self.before)
        grown = max(self.level + growth, self.expected)
        return grown + math.ceil(away + MARGIN * math.sqrt(away))


def wanted(demand: Demand | None, config: PoolConfig) -> int:
    """Return how many containers should exist within the settings; 0 if demand does not matter."""
    if demand is None or not config.autoscale:
        return 0
    return min(demand.containers, config.max_containers)


def target(demand: Demand | None, in_use: int, config: PoolConfig) -> int:
    """Return how many containers should be idle, or starting, while `in_use` are in use.

    At least `min_idle`, and always `min_idle` without `autoscale`. Otherwise idle and used
    containers together are at most `max_containers`.
    """
    return max(config.min_idle, wanted(demand, config) - in_use)


def expected(levels: Sequence[int], now: int, ahead_s: int) -> int:
    """Return the most containers that a timer will need at once within `ahead_s` seconds.

    `levels` is a ring of `MEMORY_S` elements: the most containers in use in each second. `now` is
    the number of the present second. A timer may be a second early or late. Example: if 9 were
    in use 60 s ago, and 8 were 120 s ago, it is 8.
    """
    most = 0
    for interval_s in INTERVALS_S:
        until = now + min(ahead_s, interval_s - 2) + 1
        if most_of(levels, now - interval_s - 1, until - interval_s + 1) <= most:
            continue
        for second in range(now, until):
            once, twice = (
                most_of(levels, second - ago_s - 1, second - ago_s + 2)
                for ago_s in (interval_s, 2 * interval_s)
            )
            most = max(most, min(once, twice))
    return most


def most_of(levels: Sequence[int], since: int, until: int) -> int:
    """Return the highest level of the seconds from `since` up to, but without, `until`."""
    first, last = since % MEMORY_S, until % MEMORY_S
    if first < last:
        return max(levels[first:last])
    return max(*levels[first:], *levels[:last])


def ahead_s(level: int, start_s: float, config: PoolConfig) -> int:
    """Return how many seconds before a timer fires `level` containers have to be started."""
    rounds = math.ceil(level / config.start_concurrency)
    return math.ceil(AHEAD_S + start_s * rounds)


def least(counts: Sequence[int], share: float) -> int:
    """Return the smallest number that at most `share` of all cases exceed.

    `counts[n]` is the number of cases with the number n. Without any cases the result is 0.
    Example: counts [0, 90, 9, 1] and share 0.01 give 2, because one case of 100 is above 2.
    """
    allowed = share * sum(counts)
    above = 0
    for number in range(len(counts) - 1, 0, -1):
        above += counts[number]
        if above > allowed:
            return number
    return 0
