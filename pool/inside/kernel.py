"""Tell which kernel a container has.

Runs inside the container: standard library only, any CPython since 3.8.
"""

from __future__ import annotations

import os

_SENTRY = "/proc/sentry-meminfo"
"""A file that gVisor has and Linux has not."""


def is_gvisor() -> bool:
    """Return True if gVisor is the kernel here."""
    return os.path.exists(_SENTRY)
