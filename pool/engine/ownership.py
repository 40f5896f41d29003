"""Tell whether a container's server is still there. Pure, but for reading `/proc`.

If a server dies, its containers end, because their stdin ends. Only an engine that was killed
leaves containers over. The server knows them by their labels.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING

from pool.engine.spec import LABEL, LABEL_EXPIRES, LABEL_INSTANCE

if TYPE_CHECKING:
    from pool.engine.api import Owned

_START_TIME_FIELD = 19  # of /proc/PID/stat, counted behind the parenthesis


def instance_name() -> str:
    """Return a name by which others on the same machine can tell if this process lives.

    Its parts are the host, the host's boot, the pid namespace, the pid, and the time of the
    process's start.
    """
    return "/".join((*_machine(), str(os.getpid()), _start_time(os.getpid())))


def labels(instance: str, expires_at: float) -> dict[str, str]:
    """Return a container's labels; `expires_at` is seconds since the epoch."""
    return {LABEL: "1", LABEL_INSTANCE: instance, LABEL_EXPIRES: str(int(expires_at))}


def is_abandoned(container: Owned, instance: str, *, expires_before: float) -> bool:
    """Return True if a container of the server `instance` is not up, although it should be.

    This happens if the connection to the engine breaks while the engine answers `create`. A
    container that expires before `expires_before` was created long enough ago to be up.
    """
    expires = container.labels.get(LABEL_EXPIRES, "")
    ours = container.labels.get(LABEL_INSTANCE) == instance
    return ours and not container.up and expires.isdigit() and float(expires) < expires_before


def is_left_over(container: Owned, *, now: float) -> bool:
    """Return True if no server can use a container: its own has gone, or its time is up.

    Time counts only if this process cannot see the server: it has another machine, boot or pid
    namespace. Otherwise a change of the clock could make the containers of a running server, even
    our own, look like leftovers.
    """
    instance = container.labels.get(LABEL_INSTANCE, "")
    *machine, pid, start_time = instance.split("/") if "/" in instance else ["", ""]
    if tuple(machine) == _machine():
        return _start_time(pid) != start_time
    expires = container.labels.get(LABEL_EXPIRES, "")
    return expires.isdigit() and float(expires) < now


def _machine() -> tuple[str, str, str]:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    namespace = os.readlink("/proc/self/ns/pid")  # noqa: PTH115 - not a path
    return platform.node(), boot, namespace


def _start_time(pid: int | str) -> str:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return "gone"
    fields = stat.rpartition(")")[2].split()
    return "gone" if fields[0] == "Z" else fields[_START_TIME_FIELD]
