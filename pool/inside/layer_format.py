"""The one form in which a layer of dependencies travels.

The installer sends records (`pip_install`), the server checks them and writes them anew
(`pool/dependencies/archive.py`), and the volume's keeper makes files of them (`volume_server`).
tar has five dialects in which to say where an entry goes; this form has one.

Runs inside containers, too: standard library only, any CPython since 3.8.
"""

from __future__ import annotations

import enum
import struct

RECORD = struct.Struct("!BBHHQ")
"""The head of a record: the kind of the entry, whether it is executable, and the sizes in bytes
of its path, of its link's target and of its content. These three follow the head."""

CHUNK = struct.Struct("!I")
"""Precedes each part of a layer on its way to the volume: its size, 0 at the end, or `ABORT`."""
ABORT = 0xFFFFFFFF


class Entry(enum.IntEnum):
    """The kind of an entry. END ends a layer; OTHER, and any number beyond, is refused."""

    END = 0
    FILE = 1
    DIRECTORY = 2
    LINK = 3
    OTHER = 9


def record(
    kind: Entry, path: bytes, *, target: bytes = b"", executable: bool = False, size: int = 0
) -> bytes:
    """Return a record without its content; `size` bytes of content are to follow it."""
    return RECORD.pack(kind, executable, len(path), len(target), size) + path + target
