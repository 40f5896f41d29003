"""Write the input files of a run, before it and as its user.

Runs inside the container, in the child: standard library only, any CPython since 3.8.
"""

from __future__ import annotations

import contextlib
import errno
import os
from typing import Iterator

from pool.inside.protocol import FILE

_PIECE_BYTES = 1 << 16


class _Source:
    """The pipe from PID 1, which carries `left` more bytes."""

    def __init__(self, fd: int, left: int) -> None:
        self.left = left
        self._fd = fd
        self._piece = memoryview(bytearray(_PIECE_BYTES))

    def take(self, most: int) -> memoryview:
        """Return at most `most` of the next bytes; they hold until the next call.

        Raises `OSError` if PID 1 has given up.
        """
        size = os.readv(self._fd, [self._piece[: min(most, self.left)]])
        if not size:
            self.left = 0
            raise OSError(errno.ETIMEDOUT, "the files do not come")
        self.left -= size
        return self._piece[:size]

    def exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            data += self.take(size - len(data))
        return data

    def drop(self) -> None:
        """Take the rest, so that PID 1 does not wait."""
        with contextlib.suppress(OSError):
            while self.left:
                self.take(_PIECE_BYTES)


def write_all(fd: int, size: int, stamp_ns: int) -> bool:
    """Read `size` bytes of files from PID 1 and write them. Returns False if they do not fit.

    The first file gets the modification time `stamp_ns`, the next one a nanosecond more, and so on:
    if it still has that after the run, the run has not changed it. No process of the run exists
    yet, so nothing can come between.
    """
    source = _Source(fd, size)
    try:
        for number, (name, content_size) in enumerate(_each(source)):
            if directory := os.path.dirname(name):
                os.makedirs(directory, exist_ok=True)
            _write(source, name, content_size, stamp_ns + number)
    except OSError:
        source.drop()
        return False
    return True


def replace_all(fd: int, size: int, stamp_ns: int) -> OSError | None:
    """Do as `write_all`, where files of these names may be there. Return the error, if any.

    Either all are written or none is. Each is first written beside its place, under a name of its
    own, so that what is there stays until no error can come any more.
    """
    source = _Source(fd, size)
    written: list[tuple[bytes, bytes]] = []
    made: list[bytes] = []
    token = os.urandom(8).hex().encode()  # no file that is given has it in its name
    try:
        for number, (name, content_size) in enumerate(_each(source)):
            directory, _, last = name.rpartition(b"/")
            _make_directories(directory, made)
            if os.path.isdir(name) and not os.path.islink(name):
                raise IsADirectoryError(errno.EISDIR, "a directory has the name of a file")
            beside = b"%s.%s.%d" % (name[: len(name) - len(last)], token, number)
            written.append((beside, name))
            _write(source, beside, content_size, stamp_ns + number)
        for beside, name in written:
            os.rename(beside, name)
    except OSError as error:
        source.drop()
        for beside, _ in written:
            with contextlib.suppress(OSError):
                os.unlink(beside)
        for directory in reversed(made):
            with contextlib.suppress(OSError):
                os.rmdir(directory)
        return error
    return None


def _each(source: _Source) -> Iterator[tuple[bytes, int]]:
    """Yield the name of each file, and the size of its content, which is to be taken then."""
    while source.left:
        name_size, content_size = FILE.unpack(source.exactly(FILE.size))
        yield source.exactly(name_size), content_size


def _make_directories(path: bytes, made: list[bytes]) -> None:
    """Make the directories of a path that are not there, and note them in `made`."""
    parts = path.split(b"/") if path else []
    for depth in range(1, len(parts) + 1):
        directory = b"/".join(parts[:depth])
        try:
            os.mkdir(directory)
        except FileExistsError:
            continue  # if it is no directory, the next step fails
        made.append(directory)


def _write(source: _Source, name: bytes, size: int, time_ns: int) -> None:
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
