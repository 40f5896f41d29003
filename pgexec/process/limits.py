"""As many open files as the system allows: each connection is one."""

from __future__ import annotations

import contextlib
import resource

FEW = 4096
"""Two thousand clients, the engine's streams, and as much again."""


def raise_limit() -> str | None:
    """Raise the soft limit on open files to the hard one; complain where that is low.

    The soft one is 1024 nearly everywhere for the sake of programs that use `select`
    (systemd's NEWS of version 240); this is none.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # a hard limit without end need not be real
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    if soft == resource.RLIM_INFINITY or soft >= FEW:
        return None
    return f"only {soft} files may be open at once, each connection is one: raise `ulimit -Hn`"
