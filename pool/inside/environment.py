"""Remove a variable from the environment, and from all copies of the environment.

`os.environ.pop` leaves it in three places, which each snippet can read. One is the block in which
the kernel passed the environment, which `/proc/self/environ` shows. Another is `posix.environ`, of
which `os.environ` may be a copy. The third is freed memory, which keeps its bytes.

Runs inside the container: standard library only, any CPython since 3.8.
"""

from __future__ import annotations

import json
import os
import posix
import sys
from typing import Any

from pool.inside.callbacks import ctypes


def take(name: str) -> str:
    """Remove the variable `name` and return its value. Raises `KeyError` if there is none.

    In the kernel's block, and in the objects that held the value, zeros replace it. Without
    `ctypes` these stay as they are.
    """
    key = os.fsencode(name)
    copy: dict[bytes, bytes] = vars(os.environ)["_data"]
    held = [posix.environ.get(key, b""), copy.get(key, b"")]
    if ctypes is not None:
        libc = ctypes.CDLL(None)
        libc.getenv.restype = ctypes.c_void_p
        at = libc.getenv(key)  # a pointer into the block, until `os.environ.pop`
    value = os.environ.pop(name)
    posix.environ.pop(key, None)
    if ctypes is not None:
        ctypes.memset(at - len(key) - 1, 0, len(key) + 1 + len(held[0]))
    for one in held:
        _wipe(one)
    return value


def take_json(name: str) -> Any:  # noqa: ANN401 - whatever the variable says
    """Remove the variable `name` and return what its JSON says. Its text stays nowhere."""
    text = take(name)
    said = json.loads(text)
    _wipe(text)
    return said


def _wipe(held: str | bytes) -> None:
    """Write zeros over the bytes of an object that is about to be freed, or the text if ASCII."""
    head = sys.getsizeof(type(held)()) - 1
    if ctypes is not None and sys.getsizeof(held) == head + len(held) + 1 and len(held) > 1:
        ctypes.memset(id(held) + head, 0, len(held))
