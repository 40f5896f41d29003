"""Send the output of a run, and frames, from PID 1 to the server.

Output goes from a child's pipe into a piece of memory, and from there to the server; the runner
empties this memory before each fork. Output never becomes a Python object: the next child is a
copy of PID 1 and would find it there.

Runs inside the container, in PID 1: standard library only, any CPython since 3.8.
"""

from __future__ import annotations

import os

from pool.inside.protocol import HEADER, Kind

AREA_BYTES = 256 * 1024
READ_BYTES = 64 * 1024
"""One read takes at most so many bytes; the relay sends as soon as so many bytes wait."""

_HOST_OUT = 1
_MAX_SEGMENTS = 512
_MAX_BUFFERS = 64


class Outbox:
    """Keeps output in `area`, of `AREA_BYTES` bytes, in the order of arrival, until it is sent."""

    def __init__(self, area: memoryview) -> None:
        self.used = 0
        self._area = area
        self._segments: list[tuple[Kind, int, int]] = []
        """Kind, start and end of each piece of `area`; each piece becomes one frame."""

    def read(self, kind: Kind, fd: int, limit: int) -> int:
        """Move at most `limit` bytes from the pipe `fd` into the area.

        `limit` is `READ_BYTES` at most. Returns the number of bytes: 0 at the pipe's end, -1 if
        the pipe is empty but still open.
        """
        if self.used + READ_BYTES > len(self._area) or len(self._segments) >= _MAX_SEGMENTS:
            self.send()
        try:
            size = os.readv(fd, [self._area[self.used : self.used + limit]])
        except BlockingIOError:
            return -1
        if size:
            last = self._segments[-1] if self._segments else None
            if last and last[0] is kind:
                self._segments[-1] = (kind, last[1], last[2] + size)
            else:
                self._segments.append((kind, self.used, self.used + size))
            self.used += size
        return size

    def take_back(self) -> None:
        """Forget the last byte that was read."""
        kind, start, end = self._segments.pop()
        self._segments.append((kind, start, end - 1))
        self.used -= 1

    def send(self, frame: bytes = b"", rest: bytes | memoryview = b"") -> None:
        """Write the output that is pending, and then `frame`, to the server."""
        buffers: list[bytes | memoryview] = []
        for kind, start, end in self._segments:
            buffers += (HEADER.pack(kind, end - start), self._area[start:end])
        self._segments.clear()
        self.used = 0
        buffers += filter(len, (frame, rest))
        while buffers:
            written = os.writev(_HOST_OUT, buffers[:_MAX_BUFFERS])
            while buffers and written >= len(buffers[0]):
                written -= len(buffers.pop(0))
            if written:
                buffers[0] = memoryview(buffers[0])[written:]
