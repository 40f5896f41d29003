"""What is known of each entry of a layer: a file that is written and compared in one pass.

It has a row for each entry, in the order of `_walk`: the size of its name, its mode and size, when
content and inode last changed, its digest, and its name. A row without a name ends a directory. So
each name is there once, whatever lies below it, and nobody needs memory for more than the names of
one directory.

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
"""No manifest that we write is larger: a row for each entry, and one more for each directory."""

State = Tuple[int, int, int, int]  # Python 3.8 has no tuple[...] at run time
"""Mode, size, and when content and inode last changed, in nanoseconds."""
Known = Tuple[State, bytes]
"""What is to be written of an entry: its state, and its digest."""


def write_manifest(file: BinaryIO, root: bytes, known: Callable[[bytes, State], Known]) -> int:
    """Write the manifest of the layer at `root`; return what layer and manifest take on disk.

    `known` is asked for each entry, by its path within the layer and its state now.
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
    """Whether the layer at `root` is what its manifest says.

    What lstat(2) says has not changed counts as the same; the rest is read. Where that is the
    same, too, the new times are written into `file`. Raises `OSError`, `struct.error`.
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
    """Return the SHA-256 of a file's content or of a link's target; of a directory, zeros."""
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

    The end of a directory is an entry without a name, and with `None`.
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
