"""Read the container's own cgroup, of version 2 or 1: out-of-memory kills and processor time.

Its files are opened once, and read again at each run, which takes microseconds.

Runs inside the container, in PID 1: standard library only, any CPython since 3.8.
"""

from __future__ import annotations

import contextlib
import os
import resource
import time
from typing import Sequence

_ROOT = "/sys/fs/cgroup"
_READ_BYTES = 4096
_TIME_BYTES = 64
"""Room for the first line of cpu.stat, or for all of cpuacct.usage."""


class OomCounter:
    """Counts the out-of-memory kills. If the container shows neither file, the count stays 0."""

    FILES = (f"{_ROOT}/memory.events", f"{_ROOT}/memory/memory.oom_control")

    def __init__(self) -> None:
        self._fd = _open_first(self.FILES)
        self._marked = 0

    def mark(self) -> None:
        """Remember the present count, for `risen`."""
        self._marked = self._count()

    def risen(self) -> bool:
        """Return True if the kernel has killed a process for lack of memory since `mark`."""
        return self._count() > self._marked

    def _count(self) -> int:
        if self._fd is not None:
            for line in os.pread(self._fd, _READ_BYTES, 0).splitlines():
                if line.startswith(b"oom_kill "):
                    return int(line.split()[1])
        return 0


class CpuMeter:
    """Measures the processor time of all processes of the container but PID 1.

    No process can leave its cgroup. So every process of the snippet counts, even one that was
    killed. If the container shows no such file, only processes that PID 1 has reaped count.
    """

    FILES = (
        f"{_ROOT}/cpu.stat",
        f"{_ROOT}/cpuacct/cpuacct.usage",
        f"{_ROOT}/cpu,cpuacct/cpuacct.usage",
    )

    def __init__(self) -> None:
        # At the root of a hierarchy of version 2, `cpu.stat` has the whole machine's time.
        files = self.FILES if os.path.exists(f"{_ROOT}/cgroup.type") else self.FILES[1:]
        self._fd = _open_first(files)
        self._marked_us = 0

    def mark(self) -> None:
        """Begin to measure."""
        self._marked_us = self._others_us()

    def used_us(self, pid: int) -> int:
        """Return the microseconds that the other processes have used since `mark`.

        `pid` is the child. If it runs on another processor now, the kernel adds up its time at each
        tick only, every few milliseconds. PID 1 asks for the child's clock first: this makes the
        kernel add it up at once.
        """
        with contextlib.suppress(OSError):  # it has ended, and all its time is added up
            time.clock_gettime(_clock_of(pid))
        return max(0, self._others_us() - self._marked_us)

    def _others_us(self) -> int:
        own_ns = time.process_time_ns()
        if self._fd is None:
            ended = resource.getrusage(resource.RUSAGE_CHILDREN)
            return int((ended.ru_utime + ended.ru_stime) * 1e6)
        text = os.pread(self._fd, _TIME_BYTES, 0)
        if text.startswith(b"usage_usec "):
            return int(text[11 : text.index(b"\n")]) - own_ns // 1000
        return (int(text) - own_ns) // 1000


def _clock_of(pid: int) -> int:
    """Return the number of a process' clock, as `clock_getcpuclockid(3)` makes it."""
    return ~pid << 3 | 2


def _open_first(paths: Sequence[str]) -> int | None:
    for path in paths:
        with contextlib.suppress(OSError):
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    return None
