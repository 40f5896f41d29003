"""The format in which a layer of dependencies travels.

The installer sends records (`pip_install`), the server checks them and writes them anew
(`pool/dependencies/archive.py`), and the volume's keeper makes files of them (`volume_server`).
tar has five dialects for the path of an entry; this format has one.

Runs inside containers, too: standard library only, any CPython since 3.8.
"""

from __future__ import annotations

import enum
import struct

RECORD_HEAD = struct.Struct("!BBHHQ")
"""The head of a record: the kind of the entry, whether it is executable, and the sizes in bytes
of its path, of its link's target and of its content. These three follow the head."""

CHUNK = struct.Struct("!I")
"""The head of each part of a layer on its way to the volume: the part's size in bytes. 0 ends the
layer; `ABORT` says that the server does not want it any more."""
ABORT = 0xFFFFFFFF

MAX_ENTRIES = 100_000
MAX_NAMES_BYTES = 16 << 20
"""The limit on all paths and targets of a layer together, in bytes. `pandas` and its dependencies
have 0.6 MiB; a wheel of a few MB may have 90,000 names of 255 bytes, which are 22 MiB. Without the
limit, the names of such a layer would fill the memory of every program that reads it."""

_BLOCK_BYTES = 4096
_INODE_BYTES = 512


class Entry(enum.IntEnum):
    """The kind of an entry. END ends a layer. The server refuses OTHER and any other number."""

    END = 0
    FILE = 1
    DIRECTORY = 2
    LINK = 3
    OTHER = 9


def record(
    kind: Entry, path: bytes, *, target: bytes = b"", executable: bool = False, size: int = 0
) -> bytes:
    """Return a record without its content. The caller sends `size` bytes of content after it."""
    return RECORD_HEAD.pack(kind, executable, len(path), len(target), size) + path + target


def disk_bytes(size: int) -> int:
    """Return what an entry of `size` bytes takes on a disk: at least a block, and its inode."""
    return max(1, -(-size // _BLOCK_BYTES)) * _BLOCK_BYTES + _INODE_BYTES
