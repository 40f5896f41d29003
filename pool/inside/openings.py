"""Find other places than the wiped mounts in which every user may write.

A run could leave a file there for the next run. The root is read-only, but an engine may add
places: Podman mounts `/var/tmp` and `/run`, crun on cgroup v1 `/sys/fs/cgroup`.

Runs inside the container, in PID 1: standard library only, any CPython since 3.8.
"""

from __future__ import annotations

import contextlib
import os
import stat

_FOR_ALL = stat.S_IWOTH
_OF_THE_KERNEL = ("proc", "sysfs")
"""Nobody can make a file in these file systems, and they are too large to walk."""
_PROBE = ".pgexec-probe"


def close_openings(wiped: list[str]) -> list[str]:
    """Take the right to write from all users where that works; return the other places.

    `wiped` are our own mounts. Root owns an engine's tmpfs, so this can change its mode.
    """
    mounts = _mounts()
    openings: list[str] = []
    for point, kind in mounts.items():
        if point in wiped or kind in _OF_THE_KERNEL or _is_read_only(point):
            continue
        mode = _mode(point)
        # Directories only: a masked file is the container's own /dev/null, which all users need.
        if kind == "tmpfs" and stat.S_ISDIR(mode) and mode & _FOR_ALL:
            with contextlib.suppress(OSError):
                os.chmod(point, mode & 0o755)
        openings += _openings_below(point, set(mounts))
    return sorted(openings)


def _mounts() -> dict[str, str]:
    """Return the type of the file system by mount point; of several mounts, the topmost counts."""
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
    """Return the mode of a path, or 0 if it has gone or cannot be seen."""
    try:
        return os.lstat(path).st_mode
    except OSError:
        return 0


def _is_read_only(path: str) -> bool:
    with contextlib.suppress(OSError):
        return bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    return False


def _takes_writes(path: str, mode: int) -> bool:
    """Try to write, and return True if it works: gVisor, say, may not tell a read-only mount.

    This opens a file, or makes one in a directory for a moment. Devices, links and sockets keep no
    data. A message queue cannot be made if none is allowed.
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
