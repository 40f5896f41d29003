"""The manifest of a layer: a file with a row for each entry, written and compared in one pass.

The rows are in the order of `_walk`. A row has the size of the entry's name, its mode and size, the
times of the last changes of content and inode, its digest, and its name. A row without a name ends
a directory. So each name is there only once, and no program needs memory for more than the names
of one directory.

Runs inside the volume's container: standard library only, any CPython since 3.8.
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
from typing import Any, BinaryIO, Callable, Iterator, Tuple

from pool.inside.layer_format import MAX_ENTRIES, MAX_NAMES_BYTES, disk_bytes

_ROW = struct.Struct("!H32sIQqq")
_STATE = struct.Struct("!IQqq")
_END = _ROW.pack(0, b"", 0, 0, 0, 0)
_READ = 1 << 18

MAX_MANIFEST_BYTES = 2 * (MAX_ENTRIES + 1) * _ROW.size + MAX_NAMES_BYTES
"""The greatest size of a manifest: a row for each entry, and one more for each directory."""

State = Tuple[int, int, int, int]  # Python 3.8 has no tuple[...] at run time
"""Mode, size, and the times of the last changes of content and inode, in nanoseconds."""
Known = Tuple[State, bytes]
"""The state of an entry, and its digest."""


def write_manifest(file: BinaryIO, root: bytes, known: Callable[[bytes, State], Known]) -> int:
    """Write the manifest of the layer at `root`; return the bytes of both on the disk.

    `known` is called for each entry, with its path within the layer and its present state.
    """
    total = disk_bytes(0)
    for name, path, about in _walk(root):
        if about is None:
            file.write(_END)
            continue
        state, digest = known(path, _state(about))
        file.write(_ROW.pack(len(name), digest, *state) + name)
        total += disk_bytes(state[1])
    return total + disk_bytes(file.tell())


def is_as_written(file: BinaryIO, root: bytes) -> bool:
    """Return True if the layer at `root` is the same as in its manifest.

    An entry whose lstat(2) has not changed counts as the same. Of any other entry the content is
    read. If only its times have changed, the new times are written into `file`. Raises `OSError`,
    `struct.error`.
    """
    for name, path, about in _walk(root):
        at = file.tell()
        size, digest, *state = _ROW.unpack(file.read(_ROW.size))
        if file.read(size) != name:
            return False
        if about is None:
            continue
        now = _state(about)
        if now != tuple(state):
            if list(now[:2]) != state[:2] or _digest_of(os.path.join(root, path)) != digest:
                return False
            file.seek(at + _ROW.size - _STATE.size)
            file.write(_STATE.pack(*now))
            file.seek(at + _ROW.size + size)
    return not file.read(1)


def _digest_of(path: bytes) -> bytes:
    """Return the SHA-256 of a file's content or a link's target; zeros for a directory."""
    about = os.lstat(path)
    if stat.S_ISDIR(about.st_mode):
        return bytes(32)
    if stat.S_ISLNK(about.st_mode):
        return hashlib.sha256(os.readlink(path)).digest()
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for data in iter(lambda: file.read(_READ), b""):
            digest.update(data)
    return digest.digest()


def _state(about: os.stat_result) -> State:
    return about.st_mode, about.st_size, about.st_mtime_ns, about.st_ctime_ns


def _walk(root: bytes) -> Iterator[tuple[bytes, bytes, Any]]:
    """Yield name, path and lstat(2) of each entry, directory by directory.

    After each directory, an entry without a name and with `None` follows.
    """
    pending = [b""]
    while pending:
        where = pending.pop()
        for name in sorted(os.listdir(os.path.join(root, where))):
            path = os.path.join(where, name)
            about = os.lstat(os.path.join(root, path))
            yield name, path, about
            if stat.S_ISDIR(about.st_mode):
                pending.append(path)
        yield b"", b"", None
