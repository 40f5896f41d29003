"""Read the container's own cgroup, of version 2 or 1: memory and processor time.

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


_CACHE = (b"total_cache ", b"total_shmem ", b"file ", b"shmem ")


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


def limit_processes(number: int) -> None:
    """Let the container have `number` processes, where its own kernel is to count them.

    That is gVisor's. The engine's limit counts the threads of gVisor itself there, too, and who
    reaches it takes the whole sandbox along. Other kernels show this file read-only.
    """
    with contextlib.suppress(OSError):
        limit = os.open(f"{_ROOT}/pids/pids.max", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(limit, b"%d" % number)
        finally:
            os.close(limit)


class MemoryMeter:
    """Measures the memory of all processes of the container, with its files in tmpfs.

    The kernel's own memory counts, too; pages of files on disk do not, because the kernel takes
    them back when memory is short. If the container shows no figures, nothing is ever used.
    """

    FILES = (
        (f"{_ROOT}/memory.current", f"{_ROOT}/memory.stat"),
        (f"{_ROOT}/memory/memory.usage_in_bytes", f"{_ROOT}/memory/memory.stat"),
    )

    def __init__(self) -> None:
        usage, stat = next((pair for pair in self.FILES if os.path.exists(pair[0])), ("", ""))
        self._usage, self._stat = _open_first([usage]), _open_first([stat])
        self._marked = 0

    def mark(self) -> None:
        """Begin to measure."""
        self._marked = self._usage_bytes() - self._on_disk_bytes()

    def used_bytes(self) -> int:
        """Return what has come to the memory since `mark`; less than 0 if some has gone."""
        used = self._usage_bytes() - self._marked
        return used - self._on_disk_bytes() if used > 0 else used

    def _usage_bytes(self) -> int:
        return 0 if self._usage is None else int(os.pread(self._usage, _TIME_BYTES, 0))

    def _on_disk_bytes(self) -> int:
        """Return the bytes of cached pages that have a file on disk: all but those of tmpfs."""
        if self._stat is None:
            return 0
        lines = os.pread(self._stat, _READ_BYTES, 0).splitlines()
        found = dict(line.split()[:2] for line in lines if line.startswith(_CACHE))
        cached = found.get(b"total_cache") or found.get(b"file") or 0
        in_tmpfs = found.get(b"total_shmem") or found.get(b"shmem") or 0
        return max(0, int(cached) - int(in_tmpfs))


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
        self._child_us = self._marked_us = 0

    def begin(self, pid: int) -> None:
        """Begin to measure before the child `pid` gets its job; `mark` follows."""
        self._child_us = _used_by(pid)

    def mark(self, pid: int | None = None) -> None:
        """Begin to measure; or go on, if the child `pid` runs since `begin`.

        Then nobody waits for this. On a busy machine the child may even have ended meanwhile: what
        it has used since `begin` counts.
        """
        ahead_us = 0
        if pid is not None and self._fd is not None:
            ahead_us = max(0, _used_by(pid) - self._child_us)
        self._marked_us = self._others_us() - ahead_us

    def used_us(self, pid: int | None) -> int:
        """Return the microseconds that the other processes have used meanwhile.

        `pid` is the child, or None once it is reaped. If it runs on another processor now, the
        kernel adds up its time at each tick only, every few milliseconds. PID 1 asks for the
        child's clock first: this makes the kernel add it up at once.
        """
        if pid is not None:
            _used_by(pid)
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


def _used_by(pid: int) -> int:
    """Return the microseconds of processor time that a process has used; 0 if it has gone."""
    try:
        # The number of its clock, as `clock_getcpuclockid(3)` makes it.
        return time.clock_gettime_ns(~pid << 3 | 2) // 1000
    except OSError:
        return 0


def _open_first(paths: Sequence[str]) -> int | None:
    for path in paths:
        with contextlib.suppress(OSError):
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    return None
