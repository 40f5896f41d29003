"""The limits of the server's own process: open files, and memory that it gives back early."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import resource

FEW = 4096
"""Two thousand clients, the engine's streams, and as much again."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGE_BYTES = 320 << 10
"""More than uvloop reads at once, 256 KiB, and than any piece of a file or text: for each of those,
pages would be taken from the system, cleared, and given back."""
_KEPT_BYTES = 2 << 20
"""So much may stay free at the heap's end, for the same reason."""


def raise_open_files_limit() -> str | None:
    """Raise the soft limit on open files to the hard limit; return a warning if that is low.

    The soft limit is 1024 nearly everywhere, because some programs use `select` (systemd's NEWS of
    version 240). This server does not.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # a hard limit of "unlimited" may not hold
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    if soft == resource.RLIM_INFINITY or soft >= FEW:
        return None
    return f"only {soft} files may be open at once, each connection is one: raise `ulimit -Hn`"


def fix_malloc_thresholds() -> None:
    """Fix the size from which glibc takes a block from the system and not from its heap.

    By default glibc raises this size to that of the largest block freed so far, up to 32 MiB. So
    after the first long output all later ones would come from the heap. Heap memory returns to the
    system only if nothing above it is in use: the server would seem to leak. A C library without
    `mallopt` keeps its own rule.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
    mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def freeze_garbage_collector() -> None:
    """Exempt all present objects from garbage collection.

    Modules and settings last as long as the server. Each full collection would go through them,
    and all answers would wait for it.
    """
    gc.collect()
    gc.freeze()
