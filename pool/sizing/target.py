"""How many containers to keep idle: what demand asks for, within the settings. Pure.

The target is made of four parts, each a number of containers that should exist:

- the most that were in use at once during the last `idle_timeout_s`: it rises at once and
  falls only when that long has passed without need, which is all the hysteresis there is;
- as many more as that is above the most of the half hour before: demand that has just
  outgrown the long window is likely to go on growing;
- the most that a timer is about to need: what came twice at the same interval is expected a
  third time (`expected`), since schedulers fire on the minute, the quarter and the hour
  (Shahrad et al., Serverless in the Wild, USENIX ATC 2020, section 3);
- those that are away while what is not recycled is being replaced, by Little's law: arrivals
  a second, times the share that destroys its container, times the time to start one.

Less what is in use, it is how many should be idle. docs/tuning.md shows it against fixed sizes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pool.config import PoolConfig

INTERVALS_S = (60, 300, 600, 900, 1800, 3600)
"""Of the timers that are looked for."""
MEMORY_S = 2 * 3600 + 64
"""Seconds that are remembered: twice the longest interval, and what is looked at beside it."""
BEFORE_S = 1800
"""The long window that the present level is held against."""
AHEAD_S = 2.0
"""How long before a timer fires its containers should be there."""
MARGIN = 2.0
"""Standard deviations (of a Poisson process) that are kept for what is away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What has been asked of the pool, as `target` needs to see it.

    `short_per_s` and `long_per_s` are arrivals over a short and a long window; `level`, `before`
    and `expected` the most containers needed at once, during the last `idle_timeout_s`, the
    half hour before that, and soon; `start_s` is the time to start one, `recycled` the share of
    leases after which the container was used again. Time alone changes nothing before `until`.
    """

    short_per_s: float = 0.0
    long_per_s: float = 0.0
    level: int = 0
    before: int = 0
    expected: int = 0
    start_s: float = 0.0
    recycled: float = 1.0
    until: float = math.inf


def containers(demand: Demand) -> int:
    """Return how many containers should exist, those in use included."""
    per_s = max(demand.short_per_s, demand.long_per_s)
    away = per_s * (1.0 - demand.recycled) * demand.start_s
    growth = max(0, demand.level - demand.before)
    grown = max(demand.level + growth, demand.expected)
    return grown + math.ceil(away + MARGIN * math.sqrt(away))


def target(demand: Demand | None, in_use: int, config: PoolConfig) -> int:
    """Return how many containers should be idle, or on their way to it, while so many are used.

    Never fewer than `min_idle`; with those in use never more than `max_containers`, but for
    `min_idle`. Without `autoscale` it is always `min_idle`.
    """
    if demand is None or not config.autoscale:
        return config.min_idle
    wanted = min(containers(demand), config.max_containers)
    return max(config.min_idle, wanted - in_use)


def expected(levels: Sequence[int], now: int, ahead_s: int) -> int:
    """Return the most containers that a timer will need at once within `ahead_s`.

    `levels` is a ring of `MEMORY_S` seconds, the most in use in each, and `now` the number of
    the present one. A timer may be a second early or late.
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
    """Return the highest of the seconds from `since` to before `until` in a ring of levels."""
    first, last = since % MEMORY_S, until % MEMORY_S
    if first < last:
        return max(levels[first:last])
    return max(*levels[first:], *levels[:last])


def ahead_s(level: int, start_s: float, config: PoolConfig) -> int:
    """Return how many seconds before their time that many containers have to be started."""
    rounds = math.ceil(level / config.start_concurrency)
    return math.ceil(AHEAD_S + start_s * rounds)


def least(counts: Sequence[int], share: float) -> int:
    """Return the smallest number that at most this share of all cases exceeds.

    `counts` are the cases by number, from 0 on. With none it is 0.
    """
    allowed = share * sum(counts)
    above = 0
    for number in range(len(counts) - 1, 0, -1):
        above += counts[number]
        if above > allowed:
            return number
    return 0
