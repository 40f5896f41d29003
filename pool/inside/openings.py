"""Find where every user may write beyond the mounts that are wiped after each run.

What one run leaves in such a place the next one finds. The root is read-only, but an engine may
add places of its own: Podman mounts `/var/tmp` and `/run`, crun on cgroup v1 `/sys/fs/cgroup`.

Runs inside the container, in PID 1: standard library only, any CPython since 3.8.
"""

from __future__ import annotations

import contextlib
import os
import stat

_FOR_ALL = stat.S_IWOTH
_OF_THE_KERNEL = ("proc", "sysfs")
"""File systems in which nobody makes a file, and which are too large to be walked."""
_PROBE = ".pgexec-probe"


def close_openings(wiped: list[str]) -> list[str]:
    """Close what can be closed, and return the other places where every user may write.

    `wiped` are our own mounts. An engine's tmpfs is root's own, so its mode is ours to change.
    """
    mounts = _mounts()
    openings: list[str] = []
    for point, kind in mounts.items():
        if point in wiped or kind in _OF_THE_KERNEL or _is_read_only(point):
            continue
        mode = _mode(point)
        # A directory only: a masked file is the container's own /dev/null, which is all users'.
        if kind == "tmpfs" and stat.S_ISDIR(mode) and mode & _FOR_ALL:
            with contextlib.suppress(OSError):
                os.chmod(point, mode & 0o755)
        openings += _openings_below(point, set(mounts))
    return sorted(openings)


def _mounts() -> dict[str, str]:
    """Return the mount points and what is mounted there, the topmost last."""
    mounts = {}
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        for line in table:
            before, _, after = line.partition(" - ")
            mounts[before.split()[4].replace("\\040", " ")] = after.split()[0]
    return mounts


def _openings_below(point: str, mounts: set[str]) -> list[str]:
    """Walk one mount without entering another, or following a link."""
    found, paths = [], [point]
    while paths:
        path = paths.pop()
        mode = _mode(path)
        if mode & _FOR_ALL and _takes_writes(path, mode):
            found.append(path)
        elif stat.S_ISDIR(mode):
            with contextlib.suppress(OSError):
                inner = [os.path.join(path, name) for name in os.listdir(path)]
                paths += [one for one in inner if one not in mounts]
    return found


def _mode(path: str) -> int:
    """Return a path's mode, 0 where it has gone or cannot be seen."""
    try:
        return os.lstat(path).st_mode
    except OSError:
        return 0


def _is_read_only(path: str) -> bool:
    with contextlib.suppress(OSError):
        return bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    return False


def _takes_writes(path: str, mode: int) -> bool:
    """Try it: a sandbox of another kind than Linux may not tell what is read-only.

    A file is opened and a directory gets one, for a moment. Devices, links and sockets keep
    nothing; a queue of messages cannot be made where none is allowed.
    """
    try:
        if stat.S_ISREG(mode):
            os.close(os.open(path, os.O_WRONLY | os.O_CLOEXEC))
        elif stat.S_ISDIR(mode):
            probe = os.path.join(path, _PROBE)
            os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC))
            os.unlink(probe)
        else:
            return False
    except OSError:
        return False
    return True
