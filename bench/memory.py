"""What a container that does nothing takes: by its cgroup's own account, and around it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from bench.errors import BenchError

MIB = 1 << 20
_V1 = "memory/docker/{}"
_V2 = ("docker/{}", "system.slice/docker-{}.scope")
_ROOT = Path("/sys/fs/cgroup")
_PSS = re.compile(r"^Pss: +(\d+) kB", re.MULTILINE)
_RSS = re.compile(r"^Rss: +(\d+) kB", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Memory:
    """What a container takes, in MiB.

    The first three are what its cgroup is charged with. A page is charged once, to the cgroup that
    touched it first, so files that several containers have mapped count in one of them at most.
    `resident` and `proportional` are the sums of its processes' RSS and PSS.
    """

    anonymous: float
    """Heap and stacks; what a forked child shares with the runner counts once."""
    file: float
    """Page cache and tmpfs charged to this container."""
    kernel: float
    """Page tables, sockets, stacks of the kernel."""
    resident: float
    proportional: float
    shim: float
    """PSS of the engine's process beside the container, outside of its cgroup and limit."""


def of_container(container_id: str) -> Memory:
    """Read the counters. Raises `BenchError` where they cannot be read (an engine elsewhere)."""
    try:
        charged, cgroup = _charged(container_id)
        pids = [int(pid) for pid in (cgroup / "cgroup.procs").read_text().split()]
        sizes = [_sizes(pid) for pid in pids]
        (shim,) = {_parent(pid) for pid in pids} - {*pids}
        return Memory(
            *charged,
            resident=sum(rss for rss, _ in sizes),
            proportional=sum(pss for _, pss in sizes),
            shim=_sizes(shim)[1],
        )
    except (OSError, ValueError) as error:
        raise BenchError(f"the memory of {container_id[:12]} cannot be read: {error}") from error


def of_process(pid: int) -> float:
    """Return a process's PSS in MiB."""
    return _sizes(pid)[1]


def _charged(container_id: str) -> tuple[tuple[float, float, float], Path]:
    for pattern in _V2:
        cgroup = _ROOT / pattern.format(container_id)
        if (cgroup / "memory.current").exists():
            stat = _stat(cgroup)
            total = int((cgroup / "memory.current").read_text())
            anonymous, file = stat["anon"], stat["file"]
            # Before Linux 5.18 there is no `kernel` line: what is left is the kernel's.
            kernel = stat.get("kernel", max(0, total - anonymous - file))
            return (anonymous / MIB, file / MIB, kernel / MIB), cgroup
    cgroup = _ROOT / _V1.format(container_id)
    stat = _stat(cgroup)
    kernel = int((cgroup / "memory.kmem.usage_in_bytes").read_text())
    return (stat["rss"] / MIB, stat["cache"] / MIB, kernel / MIB), cgroup


def _stat(cgroup: Path) -> dict[str, int]:
    lines = (cgroup / "memory.stat").read_text().splitlines()
    return {name: int(value) for name, value in (line.split() for line in lines)}


def _sizes(pid: int) -> tuple[float, float]:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    rss, pss = _RSS.search(text), _PSS.search(text)
    if rss is None or pss is None:
        raise ValueError(f"no sizes of process {pid}")
    return int(rss[1]) / 1024, int(pss[1]) / 1024


def _parent(pid: int) -> int:
    # The name, in brackets, may hold anything; what follows is numbers.
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
