"""Take a variable out of the environment, and out of all that shows the environment.

`os.environ.pop` leaves it in two places, which every fork has and each snippet can read: the block
in which the kernel handed the environment over, which is what `/proc/self/environ` shows, and
`posix.environ`, of which `os.environ` was a copy.

Runs inside the container: standard library only, any CPython since 3.8.
"""

from __future__ import annotations

import os
import posix

from pool.inside.callbacks import ctypes


def take(name: str) -> str:
    """Return a variable's value and leave nothing of it. Raises `KeyError` if there is none.

    In the block are zeros in its place. Without `ctypes` the block stays as it is.
    """
    key = os.fsencode(name)
    if ctypes is not None:
        libc = ctypes.CDLL(None)
        libc.getenv.restype = ctypes.c_void_p
        at = libc.getenv(key)  # a pointer into the block, until `os.environ.pop`
    value = os.environ.pop(name)
    posix.environ.pop(key, None)
    if ctypes is not None:
        ctypes.memset(at - len(key) - 1, 0, len(key) + 1 + len(os.fsencode(value)))
    return value
