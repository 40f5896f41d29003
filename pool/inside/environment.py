"""Remove a variable from the environment, and from all copies of the environment.

`os.environ.pop` leaves it in two places, which each snippet can read. One is the block in which the
kernel passed the environment, which `/proc/self/environ` shows. The other is `posix.environ`, of
which `os.environ` is a copy.

Runs inside the container: standard library only, any CPython since 3.8.
"""

from __future__ import annotations

import os
import posix

from pool.inside.callbacks import ctypes


def take(name: str) -> str:
    """Remove the variable `name` and return its value. Raises `KeyError` if there is none.

    In the kernel's block, zeros replace it. Without `ctypes` the block stays as it is.
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
