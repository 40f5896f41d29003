"""Processor time by who spent it. Unlike a rate, it hardly depends on what else is running."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

ENGINE = frozenset({"dockerd", "containerd", "containerd-shim", "podman", "conmon"})
"""What the engine consists of, as far as 15 bytes of a process's name tell."""
_CGROUPS = (
    ("cpuacct/docker/{}/cpuacct.usage", 1e9),
    ("cpu,cpuacct/docker/{}/cpuacct.usage", 1e9),
    ("docker/{}/cpu.stat", 1e6),
    ("system.slice/docker-{}.scope/cpu.stat", 1e6),
)


@dataclass(frozen=True, slots=True)
class Cpu:
    """Seconds that the containers, the engine and one process (the server) have used."""

    containers_s: float
    engine_s: float
    server_s: float


def spent(container_ids: Sequence[str], server_pid: int | None) -> Cpu:
    """Read the counters; what cannot be read counts as 0 (an engine elsewhere, no rights)."""
    return Cpu(
        sum(map(_of_container, container_ids)),
        sum(_of_process(pid) for pid in _engine_processes()),
        _of_process(server_pid) if server_pid is not None else 0.0,
    )


def busy(seconds: float) -> float:
    """Measure which share of all processors is busy, from 0 to 1. Blocks."""
    before = _machine()
    time.sleep(seconds)
    after = _machine()
    used, total = after[0] - before[0], after[1] - before[1]
    return used / total if total else 0.0


def _machine() -> tuple[int, int]:
    ticks = [int(field) for field in Path("/proc/stat").read_text().split(maxsplit=9)[1:9]]
    total, idle = sum(ticks), ticks[3] + ticks[4]
    return total - idle, total


def _of_container(container_id: str) -> float:
    for pattern, per_second in _CGROUPS:
        path = Path("/sys/fs/cgroup") / pattern.format(container_id)
        if path.exists():
            # Version 1 has one number, version 2 a line `usage_usec N` before all others.
            return int(path.read_text().split("\n")[0].split()[-1]) / per_second
    return 0.0


def _of_process(pid: int) -> float:
    total = 0
    for task in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        try:
            total += int(task.read_text().split()[0])
        except OSError:  # a thread that has just ended
            continue
    return total / 1e9


def _engine_processes() -> list[int]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            name = (process / "comm").read_text().strip()
        except OSError:
            continue
        if name in ENGINE:
            found.append(int(process.name))
    return found
