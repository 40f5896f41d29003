"""Write the input files of a run, before it and as its user.

Runs inside the container, in the child: standard library only, any CPython since 3.8.
"""

from __future__ import annotations

import contextlib
import os

from pool.inside.protocol import FILE

_PIECE_BYTES = 1 << 16


class _Source:
    """The pipe from PID 1, which carries `left` more bytes."""

    def __init__(self, fd: int, left: int) -> None:
        self.left = left
        self._fd = fd
        self._piece = memoryview(bytearray(_PIECE_BYTES))

    def take(self, most: int) -> memoryview:
        """Return at most `most` of the next bytes; they hold until the next call."""
        size = os.readv(self._fd, [self._piece[: min(most, self.left)]])
        if not size:
            os._exit(71)  # PID 1 has given up
        self.left -= size
        return self._piece[:size]

    def exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            data += self.take(size - len(data))
        return data


def write_all(fd: int, size: int, stamp_ns: int) -> bool:
    """Read `size` bytes of files from PID 1 and write them. Returns False if they do not fit.

    The first file gets the modification time `stamp_ns`, the next one a nanosecond more, and so on:
    if it still has that after the run, the run has not changed it. No process of the run exists
    yet, so nothing can come between.
    """
    return _write_each(_Source(fd, size), stamp_ns, replace=False) is None


def replace_all(fd: int, size: int, stamp_ns: int) -> OSError | None:
    """Do as `write_all`, where files of these names may be there. Return the error, if any."""
    return _write_each(_Source(fd, size), stamp_ns, replace=True)


def _write_each(source: _Source, stamp_ns: int, *, replace: bool) -> OSError | None:
    try:
        number = 0
        while source.left:
            name_size, content_size = FILE.unpack(source.exactly(FILE.size))
            name = source.exactly(name_size)
            if replace:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name)
            _write(source, name, content_size, stamp_ns + number)
            number += 1
    except OSError as error:
        while source.left:
            source.take(_PIECE_BYTES)
        return error
    return None


def _write(source: _Source, name: bytes, size: int, time_ns: int) -> None:
    directory = os.path.dirname(name)
    if directory:
        os.makedirs(directory, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    target = os.open(name, flags, 0o644)
    try:
        while size:
            piece = source.take(size)
            size -= len(piece)
            while piece:
                piece = piece[os.write(target, piece) :]
        os.utime(target, ns=(time_ns, time_ns))
    finally:
        os.close(target)
