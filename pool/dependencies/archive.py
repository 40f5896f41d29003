"""Check a layer on its way out of its installer's container. Pure.

A layer travels as records (`pool/inside/layer_format.py`). Foreign code may have written them. So
this module reads each record, and writes a new one from the values that it read: it never copies
a record.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pool.errors import PoolError
from pool.inside import layer_format
from pool.inside.layer_format import MAX_ENTRIES, MAX_NAMES_BYTES, RECORD_HEAD, Entry, disk_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_PATH_BYTES = 1024
MAX_NAME_BYTES = 255


class ArchiveError(PoolError):
    """The layer must not be published; the text names the entry."""


@dataclass(slots=True)
class Bounds:
    """The limits of a layer: bytes on the disk, number of entries, bytes of paths and targets."""

    limit_bytes: int
    limit_entries: int = MAX_ENTRIES
    limit_names_bytes: int = MAX_NAMES_BYTES


class Inspector:
    """Turns the bytes of an installer, cut anywhere, into records that may be published.

    It refuses absolute paths and paths with `..`, links out of the layer, entries below a link or
    a file, entries other than files, directories and symbolic links, and more than the bounds
    allow. It buffers the head and the paths of one record, never content. `root` is the future
    path of the layer: an absolute link into it is allowed, and becomes relative. Example: in
    `/opt/layers/x`, the link `bin/a` to `/opt/layers/x/lib/b` becomes a link to `../lib/b`.
    """

    def __init__(self, root: str, bounds: Bounds) -> None:
        self.bytes = 0
        self.entries = 0
        self.names_bytes = 0
        self.complete = False
        self._root = root
        self._bounds = bounds
        self._buffer = bytearray()
        self._left = 0
        # As bytes: one character of four bytes would make the whole text four times as large.
        self._directories = {b""}
        self._others: set[bytes] = set()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Add `data`; yield the bytes that may be published. Raises `ArchiveError`."""
        buffer = self._buffer
        buffer += data
        while buffer:
            if self._left:
                content = bytes(buffer[: self._left])
                del buffer[: len(content)]
                self._left -= len(content)
                yield content
                continue
            if self.complete:
                raise ArchiveError("something follows the end of the layer")
            if len(buffer) < RECORD_HEAD.size:
                return
            kind, executable, path_size, target_size, size = RECORD_HEAD.unpack_from(buffer)
            end = RECORD_HEAD.size + path_size + target_size
            if max(path_size, target_size) > MAX_PATH_BYTES:
                raise ArchiveError("an entry's path is too long")
            if len(buffer) < end:
                return
            path = bytes(buffer[RECORD_HEAD.size : RECORD_HEAD.size + path_size])
            target = bytes(buffer[RECORD_HEAD.size + path_size : end])
            del buffer[:end]
            self._count(end - RECORD_HEAD.size, size, kind)
            yield self._record(kind, executable != 0, _text(path), _text(target), size)

    def _count(self, names_bytes: int, size: int, kind: int) -> None:
        if kind == Entry.END:
            return
        self.entries += 1
        self.names_bytes += names_bytes
        self.bytes += disk_bytes(size) + names_bytes
        bounds = self._bounds
        if self.entries > bounds.limit_entries:
            raise ArchiveError(f"it has over {bounds.limit_entries} entries")
        if self.names_bytes > bounds.limit_names_bytes:
            raise ArchiveError(f"it has over {bounds.limit_names_bytes >> 20} MiB of names")
        if self.bytes > bounds.limit_bytes:
            raise ArchiveError(f"it has over {bounds.limit_bytes >> 20} MiB")

    def _record(self, kind: int, executable: bool, path: str, target: str, size: int) -> bytes:  # noqa: FBT001
        if kind == Entry.END:
            self.complete = True
            return record(Entry.END, "")
        self._check_path(path)
        if kind != Entry.FILE and size:
            raise ArchiveError(f"{path!r} has content without being a file")
        match kind:
            case Entry.FILE:
                self._others.add(path.encode())
                self._left = size
                return record(Entry.FILE, path, executable=executable, size=size)
            case Entry.DIRECTORY:
                self._directories.add(path.encode())
                return record(Entry.DIRECTORY, path)
            case Entry.LINK:
                self._others.add(path.encode())
                return record(Entry.LINK, path, target=self._inner_target(path, target))
            case _:
                raise ArchiveError(f"{path!r} is neither a file, nor a directory, nor a link")

    def _check_path(self, path: str) -> None:
        if not path or path.startswith("/"):
            raise ArchiveError(f"the path {path!r} is absolute or empty")
        parts = path.split("/")
        if any(part in ("", ".", "..") for part in parts):
            raise ArchiveError(f"the path {path!r} climbs")
        if "\0" in path or any(len(part.encode()) > MAX_NAME_BYTES for part in parts):
            raise ArchiveError(f"the path {path!r} is none")
        encoded = path.encode()
        if posixpath.dirname(encoded) not in self._directories:
            raise ArchiveError(f"{path!r} is in no directory of the layer")
        if encoded in self._others or encoded in self._directories:
            raise ArchiveError(f"{path!r} comes twice")

    def _inner_target(self, path: str, target: str) -> str:
        """Return a link's target relative to the link, if it stays in the layer."""
        if not target or "\0" in target:
            raise ArchiveError(f"the link {path!r} leads nowhere")
        where = posixpath.dirname(path)
        if target.startswith("/"):
            if not target.startswith(f"{self._root}/"):
                raise ArchiveError(f"the link {path!r} leads out of the layer, to {target!r}")
            target = posixpath.relpath(target.removeprefix(f"{self._root}/"), where or ".")
        parts = [part for part in target.split("/") if part not in ("", ".")]
        up = next((at for at, part in enumerate(parts) if part != ".."), len(parts))
        # `..` may stand at the start only: in `link/..`, it leads to where the link leads.
        if up > (where.count("/") + 1 if where else 0) or ".." in parts[up:]:
            raise ArchiveError(f"the link {path!r} leads out of the layer, to {target!r}")
        return "/".join(parts) or "."


def record(
    kind: Entry, path: str, *, target: str = "", executable: bool = False, size: int = 0
) -> bytes:
    """Return the record of an entry; the caller sends `size` bytes of content after it."""
    return layer_format.record(
        kind, path.encode(), target=target.encode(), executable=executable, size=size
    )


def _text(path: bytes) -> str:
    try:
        return path.decode()
    except UnicodeDecodeError as error:
        raise ArchiveError(f"the path {path!r} is not UTF-8") from error
