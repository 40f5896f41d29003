"""Measures demand with a ring of counters, in constant memory.

An arrival increments one integer, in a fraction of a microsecond. The meter evaluates the counters
once a second at most, when the pool plans anyway.
"""

from __future__ import annotations

import math
from array import array
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pool.sizing import target as tuning
from pool.sizing.target import BEFORE_S, MEMORY_S, Demand

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pool.config import PoolConfig

SHORT_S, LONG_S = 10, 300
"""The meter counts arrivals over these two windows, in seconds."""
COLD_SHARE = 0.01
"""With `recommended_idle` containers, this share of all leases has to wait."""
MOST = 1024
"""All levels from this one on count as one."""
_RECENT = 0.02  # weight of the last lease in the share of those recycled
_HOUR_S, _DAY_H = 3600, 24
_MINUTE_S = 60
_MINUTES = MEMORY_S // _MINUTE_S
_BEFORE = range(1, BEFORE_S // _MINUTE_S + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class DemandReport:
    """A report on demand, for metrics and advice.

    `levels[n]` counts the arrivals at which n containers were needed at once, with the new one.
    `rises[n]` counts the arrivals at which n more were needed than at some moment of the same
    second or the one before: so many idle containers would have covered them. Example: 2 are in
    use, and 3 arrivals come within a second: levels 3, 4, 5 and rises 1, 2, 3 count one more each.

    The last element of each also counts all higher numbers. Both count since the start, a second
    late. `recommended_idle` follows from the `rises` of the last day.
    """

    arrivals_per_s: float
    target_idle: int
    recommended_idle: int
    levels: Sequence[int]
    rises: Sequence[int]


class DemandMeter:
    """Hears of each arrival and of each end of a lease; works out the demand."""

    def __init__(self, config: PoolConfig) -> None:
        self._config = config
        most = min(config.max_containers + config.max_waiting, MOST) + 1
        self.levels = [0] * (most + 1)
        self.rises = [0] * (most + 1)
        self._most = most
        self._recycled = 1.0
        self.turn_s = 0.0  # the time that one use keeps a container busy, a moving average
        self._seen: dict[int, int] = {}  # arrivals of this second by level
        self._floor = self._floor_before = 0  # the fewest in use as this second and the last began
        self._second = self._measured = -1
        self._until = -math.inf  # the end of this second
        self._last_arrival = -math.inf
        self._quiet = True  # nothing is remembered
        self._counts = array("L", [0]) * LONG_S  # arrivals by second
        self._short = self._long = 0  # sums over it
        self._peaks = array("L", [0]) * MEMORY_S  # the most in use, by second
        self._minutes = array("L", [0]) * _MINUTES  # by minute
        self._days: deque[list[int]] = deque([[0] * len(self.rises)], maxlen=_DAY_H)
        self._demand = Demand()

    def arrived(self, now: float, level: int) -> None:
        """Hear of an arrival at `now`. With it, `level` containers are in use or asked for."""
        if now >= self._until:
            self._turn(int(now), level - 1)
        seen = self._seen
        seen[level] = seen.get(level, 0) + 1

    def ended(self, held_s: float, start_s: float, *, recycled: bool) -> None:
        """Hear that a lease ended after `held_s` seconds.

        If its container is not recycled, a new one has to be started, which takes `start_s`.
        """
        self._recycled += _RECENT * (recycled - self._recycled)
        turn_s = held_s if recycled else held_s + start_s
        self.turn_s = turn_s if not self.turn_s else 0.9 * self.turn_s + 0.1 * turn_s

    def demand(self, now: float, in_use: int, start_s: float) -> Demand:
        """Return the demand at `now`, in seconds of the pool's clock; leases need `in_use`."""
        # Never go back: an alarm may ring a moment before its second has begun.
        second = max(int(now), self._second)
        if second != self._second:
            self._turn(second, in_use)
        if second != self._measured:
            self._demand = self._measure(second, start_s)
            self._measured = second
        elif in_use > (level := self._demand.level) or (self._seen and self._quiet):
            # So a burst counts within its second, and the first arrival of all wakes the meter.
            self._quiet = False
            self._demand = replace(self._demand, level=max(level, in_use), until=second + 1)
        return self._demand

    def report(self, target_idle: int) -> DemandReport:
        """Return the report for metrics and advice; the pool gives its own `target_idle`."""
        day = [now - then for now, then in zip(self.rises, self._days[0], strict=True)]
        recommended = tuning.least(day, COLD_SHARE)
        return DemandReport(
            arrivals_per_s=self._demand.short_per_s,
            target_idle=target_idle,
            recommended_idle=min(recommended, self._config.max_containers),
            levels=self.levels,
            rises=self.rises,
        )

    def _turn(self, second: int, in_use: int) -> None:
        """Close the seconds and the hours that have passed."""
        last = second if self._second < 0 else self._second
        arrivals, peak = self._count(), max(in_use, *self._seen, 0)
        if arrivals:
            self._last_arrival = last
        counts, peaks = self._counts, self._peaks
        peaks[last % MEMORY_S] = max(peaks[last % MEMORY_S], peak)
        minute, this_minute = last // _MINUTE_S, second // _MINUTE_S
        self._minutes[minute % _MINUTES] = max(self._minutes[minute % _MINUTES], peak)
        for passed in range(max(minute + 1, this_minute - _MINUTES + 1), this_minute + 1):
            self._minutes[passed % _MINUTES] = in_use
        for passed in range(max(last + 1, second - MEMORY_S + 1), second + 1):
            peaks[passed % MEMORY_S] = in_use
        for passed in range(max(last, second - LONG_S + 1), second + 1):
            counts[passed % LONG_S] = 0
        if second - last < LONG_S:
            counts[last % LONG_S] = arrivals
        self._short = sum(counts[passed % LONG_S] for passed in range(second - SHORT_S, second))
        self._long = sum(counts)
        self._floor_before = self._floor if second == last + 1 else in_use
        self._floor = in_use
        for _ in range(min(_DAY_H, second // _HOUR_S - last // _HOUR_S)):
            self._days.append(self.rises.copy())
        self._seen.clear()
        self._second, self._until = second, second + 1

    def _count(self) -> int:
        """Add this second's arrivals to the books, and return their number."""
        if not self._seen:
            return 0
        # An arrival at level n found n - 1 in use.
        self._floor = min(self._floor, min(self._seen) - 1)
        floor, most = min(self._floor, self._floor_before), self._most
        for level, many in self._seen.items():
            self.levels[min(level, most)] += many
            self.rises[min(level - floor, most)] += many
        return sum(self._seen.values())

    def _measure(self, second: int, start_s: float) -> Demand:
        config, peaks = self._config, self._peaks
        held_s = min(MEMORY_S - BEFORE_S - _MINUTE_S, math.ceil(config.idle_timeout_s))
        ahead_s = tuning.ahead_s(config.max_containers, start_s, config)
        self._quiet = second - self._last_arrival > MEMORY_S
        since = second - held_s
        return Demand(
            short_per_s=self._short / SHORT_S,
            long_per_s=self._long / LONG_S,
            level=tuning.most_of(peaks, since, second + 1),
            before=max(self._minutes[(since // _MINUTE_S - ago) % _MINUTES] for ago in _BEFORE),
            expected=tuning.expected(peaks, second, ahead_s),
            start_s=start_s,
            recycled=self._recycled,
            until=math.inf if self._quiet else second + 1,
        )
