"""Read the files that a run has left, as its user, once all of its processes have ended.

Runs inside the container, in a fork of PID 1: standard library only, any CPython since 3.8.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import stat
import time
from typing import TYPE_CHECKING, Iterator

from pool.inside.outbox import READ_BYTES, Outbox
from pool.inside.patterns import matcher
from pool.inside.protocol import FOUND, MAX_FOUND_NAME_BYTES, Found, JobHeader, Kind
from pool.inside.users import become_user

if TYPE_CHECKING:
    import re

TIMEOUT_S = 5.0
BUDGET_S = 3.0
"""The search for files ends after so many seconds."""
_MAX_DEPTH = 64
_PIECE_BYTES = 1 << 20
_SET_PIPE_SIZE = 1031  # F_SETPIPE_SZ, which `fcntl` has since 3.10
_PIPE_BYTES = 1 << 18
"""The size of the pipe to PID 1. In one of 64 KiB the two would wait for each other all the time;
of larger ones, all containers together may have 64 MiB (pipe(7), pipe-user-pages-soft)."""
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def start(header: JobHeader, request: memoryview, uid: int, script: str, stamp_ns: int) -> int:
    """Fork the process that sends the files; return the descriptor to read its answer from.

    `request` is the last part of a JOB. The process has no descriptor but its end of the pipe, and
    the rights of the run's user: what it reads, the run could have read. PID 1 only passes on what
    it writes, so that no name or content becomes an object of PID 1. Raises `OSError` if no process
    more may begin.
    """
    reader, writer = os.pipe()
    with contextlib.suppress(OSError):  # the kernel may not give so much: then it has 64 KiB
        fcntl.fcntl(writer, _SET_PIPE_SIZE, _PIPE_BYTES)
    try:
        forked = os.fork()
    except OSError:
        os.close(reader)
        os.close(writer)
        raise
    if forked:
        os.close(writer)
        return reader
    try:
        os.dup2(writer, 0)
        os.closerange(1, writer + 1)
        become_user(uid)
        patterns, _, inputs = bytes(request).partition(b"\0\0")
        names = [os.fsencode(os.path.basename(script)), *filter(None, inputs.split(b"\0"))]
        stamps = {name: stamp_ns + number for number, name in enumerate(names)}
        _send(patterns.split(b"\0"), stamps, header.collect_limit, header.collect_max)
    finally:
        os._exit(0)


def pass_on(source: int, outbox: Outbox, host_in: int, events: int = select.POLLIN) -> None:
    """Send what the process writes as FILES, until it has ended or takes too long. Close `source`.

    Ends this process if the server has gone, which `host_in` shows: by one of the `events` of
    `poll`, or by its end.
    """
    waiting = select.poll()
    waiting.register(source, select.POLLIN)
    waiting.register(host_in, events)
    deadline = time.monotonic() + TIMEOUT_S
    while (left_s := deadline - time.monotonic()) > 0:
        ready = dict(waiting.poll(left_s * 1000))
        if host_in in ready:
            os._exit(0)
        if ready and not outbox.read(Kind.FILES, source, READ_BYTES):
            break
        if outbox.used >= READ_BYTES:
            outbox.send()
    os.close(source)


def _send(patterns: list[bytes], stamps: dict[bytes, int], limit: int, most: int) -> None:
    root = os.open(".", _DIRECTORY)
    found, all_seen = _search(root, matcher(map(os.fsdecode, patterns)), _depth(patterns), stamps)
    found.sort()
    for path in found[:most]:
        limit -= _send_file(root, path, limit)
    more = len(found[most:])
    _write(FOUND.pack(Found.END if all_seen else Found.CUT_SHORT, 0, more))


def _search(
    root: int, pattern: re.Pattern[str], depth: int, stamps: dict[bytes, int]
) -> tuple[list[bytes], bool]:
    """Return the paths of the files that match, and whether all were looked at in time."""
    found: list[bytes] = []
    deadline = time.monotonic() + BUDGET_S
    for path, entry in _walk(root, b"", depth):
        if time.monotonic() > deadline:
            return found, False
        if len(path) > MAX_FOUND_NAME_BYTES or not pattern.fullmatch(os.fsdecode(path)):
            continue
        if path in stamps:
            try:
                if entry.stat(follow_symlinks=False).st_mtime_ns == stamps[path]:
                    continue  # the run has not changed it
            except OSError:
                continue
        found.append(path)
    return found, True


def _walk(fd: int, prefix: bytes, depth: int) -> Iterator[tuple[bytes, os.DirEntry[str]]]:
    """Yield the regular files below a directory, and follow no link."""
    try:
        with os.scandir(fd) as entries:
            for entry in entries:
                path = prefix + os.fsencode(entry.name)
                if entry.is_file(follow_symlinks=False):
                    yield path, entry
                elif depth and entry.is_dir(follow_symlinks=False):
                    try:
                        inner = os.open(entry.name, _DIRECTORY, dir_fd=fd)
                    except OSError:
                        continue  # the run may not read it either
                    try:
                        yield from _walk(inner, path + b"/", depth - 1)
                    finally:
                        os.close(inner)
    except OSError:
        return


def _send_file(root: int, path: bytes, limit: int) -> int:
    """Send one file; return how many bytes of content that were."""
    try:
        fd = _open(root, path)
    except OSError:
        _write(FOUND.pack(Found.UNREADABLE, len(path), 0) + path)
        return 0
    size = os.fstat(fd).st_size
    if size > limit:
        _write(FOUND.pack(Found.OVER_LIMIT, len(path), size) + path)
        size = 0
    else:
        _write(FOUND.pack(Found.CONTENT, len(path), size) + path)
        left = size
        while left:
            left -= _pour(fd, min(left, _PIECE_BYTES))
    os.close(fd)
    return size


def _pour(fd: int, size: int) -> int:
    """Send at most `size` bytes from where a file is read; return how many it were.

    No process is left that could cut the file. Zeros keep the promise of its size if it ends early.
    """
    try:
        sent = os.sendfile(0, fd, None, size)
    except OSError:  # not each kernel, and not each file system, can do this without a copy
        piece = os.read(fd, size)
        _write(piece)
        sent = len(piece)
    if not sent:
        _write(bytes(size))
    return sent or size


def _open(root: int, path: bytes) -> int:
    """Open a regular file, through directories that are no links either."""
    *parents, name = path.split(b"/")
    fd = os.dup(root)
    for parent in parents:
        inner = os.open(parent, _DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = inner
    file = os.open(name, _FILE, dir_fd=fd)
    os.close(fd)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        raise OSError("not a file")
    return file


def _write(data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(0, rest) :]


def _depth(patterns: list[bytes]) -> int:
    """Return how many directories deep a file may be that matches."""
    if any(b"**" in pattern for pattern in patterns):
        return _MAX_DEPTH
    return min(_MAX_DEPTH, max(pattern.count(b"/") for pattern in patterns))
