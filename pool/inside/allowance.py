"""What a run may use up besides its time on the clock, looked at when it can have been used up.

Runs inside the container, in PID 1: standard library only, any CPython since 3.8.
"""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING

from pool.inside.protocol import Ending, JobHeader

if TYPE_CHECKING:
    from pool.inside.cgroup import CpuMeter, MemoryMeter

_PERIOD_S = 0.1
"""In each period of so many seconds the kernel gives a container its share of the processors anew:
in a shorter time, a run may use the whole share on all processors at once."""
_FASTEST_BYTES_PER_S = 4 << 30
"""No processor fills memory faster than this."""
_SHORTEST_S = 0.002
"""The least time in seconds between two looks; a run may go so far over its limit."""


class Allowance:
    """The processor time and the memory that are left to a run, whose child is `pid`.

    Each limit counts only if `header` has it. The container has `cpus` processors. `next_at` is the
    time, on the monotonic clock, before which nothing can be used up; infinity for a run without
    such limits, which thus costs nothing.
    """

    def __init__(
        self,
        header: JobHeader,
        meters: tuple[CpuMeter, MemoryMeter],
        cpus: float,
        pid: int,
        now: float,
    ) -> None:
        self._cpu_s = header.cpu_ms / 1000
        self._memory_bytes = header.memory_limit
        self._cpu, self._memory = meters
        self._cpus = cpus
        # Asked for only if it is needed: glibc opens a file in /sys to count.
        bound = self._cpu_s or self._memory_bytes
        self._cores = (os.cpu_count() or 1) if bound else 1
        self._pid = pid
        self.next_at = now + min(
            self._cpu_lasts_s(self._cpu_s) if self._cpu_s else math.inf,
            self._memory_lasts_s(self._memory_bytes) if self._memory_bytes else math.inf,
        )

    def used_up(self, now: float) -> Ending | None:
        """Return how the run has to end now, or `None`, and then set `next_at` anew."""
        wait_s = math.inf
        if self._memory_bytes:
            left_bytes = self._memory_bytes - self._memory.used_bytes()
            if left_bytes < 0:
                return Ending.MEMORY_LIMIT
            wait_s = self._memory_lasts_s(left_bytes)
        if self._cpu_s:
            left_s = self._cpu_s - self._cpu.used_us(self._pid) / 1e6
            if left_s <= 0:
                return Ending.CPU_TIME
            wait_s = min(wait_s, self._cpu_lasts_s(left_s))
        self.next_at = now + wait_s
        return None

    def _cpu_lasts_s(self, left_s: float) -> float:
        """Return the seconds in which all processes together can at the earliest use `left_s`."""
        return max(_SHORTEST_S, left_s / self._cores, left_s / self._cpus - _PERIOD_S)

    def _memory_lasts_s(self, left_bytes: int) -> float:
        """Return the seconds in which all processes can at the soonest fill `left_bytes`."""
        return max(_SHORTEST_S, left_bytes / (_FASTEST_BYTES_PER_S * self._cores))
