"""What a run may use up besides its time on the clock, looked at when it can have been used up.

Runs inside the container, in PID 1: standard library only, any CPython since 3.8.
"""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING

from pool.inside.protocol import Ending, JobHeader

if TYPE_CHECKING:
    from pool.inside.cgroup import CpuMeter

_PERIOD_S = 0.1
"""In each period of so many seconds the kernel gives a container its share of the processors anew:
in a shorter time, a run may use the whole share on all processors at once."""
_SHORTEST_S = 0.002
"""The least time in seconds between two looks; a run may go so far over its limit."""


class Allowance:
    """The processor time that is left to a run, of `cpus` processors, whose child is `pid`.

    `next_at` is the time, on the monotonic clock, before which nothing can be used up; infinity
    for a run without such limits, which thus costs nothing.
    """

    def __init__(self, header: JobHeader, cpu: CpuMeter, cpus: float, pid: int, now: float) -> None:
        self._cpu_s = header.cpu_ms / 1000
        self._cpu = cpu
        self._cpus = cpus
        self._pid = pid
        self.next_at = now + self._earliest_s(self._cpu_s) if self._cpu_s else math.inf

    def used_up(self, now: float) -> Ending | None:
        """Return how the run has to end now, or `None`, and then set `next_at` anew."""
        left_s = self._cpu_s - self._cpu.used_us(self._pid) / 1e6
        if left_s <= 0:
            return Ending.CPU_TIME
        self.next_at = now + self._earliest_s(left_s)
        return None

    def _earliest_s(self, left_s: float) -> float:
        """Return the seconds in which all processes together can at the earliest use `left_s`."""
        at_once = left_s / (os.cpu_count() or 1)
        return max(_SHORTEST_S, at_once, left_s / self._cpus - _PERIOD_S)
