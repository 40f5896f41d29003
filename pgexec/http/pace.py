"""Disconnect a client that takes nothing, or too little, of its answers.

The bytes that it has not taken fill memory. Only the time in which the transport is full counts: a
client that keeps up is not watched, even if there is little to send.
"""

from __future__ import annotations

import contextlib
import fcntl
import sys
import termios
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio

LEAST_BYTES_PER_S: Final = 8 << 10
"""A client that is behind must take so many bytes a second: 64 kbit/s, as a bad telephone line."""


class Pace:
    """Watches one client from `behind` to `caught_up`."""

    __slots__ = ("_began", "_bytes", "_loop", "_seconds", "_timeout_s", "_timer", "_untaken")

    def __init__(self, loop: asyncio.AbstractEventLoop, timeout_s: float) -> None:
        self._loop = loop
        self._timeout_s = timeout_s
        self._timer: asyncio.TimerHandle | None = None
        self._began = 0.0
        self._untaken = 0
        self._seconds = 0.0  # of being behind, and what was taken meanwhile, since the last verdict
        self._bytes = 0

    @property
    def watches(self) -> bool:
        """True if the client is behind."""
        return self._timer is not None

    def behind(self, transport: asyncio.Transport) -> None:
        """Begin to watch a client whose transport is full."""
        self.stop()
        self._began = self._loop.time()
        self._untaken = untaken_bytes(transport)
        self._timer = self._loop.call_later(self._timeout_s, self.look, transport, self._untaken)

    def caught_up(self, transport: asyncio.Transport | None) -> None:
        """Stop watching. The bytes that the client took meanwhile count the next time."""
        if self._timer is not None and transport is not None and self._is_late(transport):
            transport.abort()
        self.stop()

    def stop(self) -> None:
        """Stop watching."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def look(self, transport: asyncio.Transport, before_bytes: int) -> None:
        """Disconnect a client that has taken nothing since `before_bytes`, or too little."""
        if untaken_bytes(transport) >= before_bytes or self._is_late(transport):
            self.stop()
            transport.abort()
        else:
            self.behind(transport)

    def _is_late(self, transport: asyncio.Transport) -> bool:
        """Count the time since the last look. Returns True if it is long enough, and too slow."""
        self._seconds += self._loop.time() - self._began
        self._bytes += max(0, self._untaken - untaken_bytes(transport))
        if self._seconds < self._timeout_s:
            return False
        late = self._bytes < LEAST_BYTES_PER_S * self._seconds
        self._seconds, self._bytes = 0.0, 0
        return late


def untaken_bytes(transport: asyncio.Transport) -> int:
    """Return the number of written bytes that the client's side has not acknowledged yet.

    Most of them are in the kernel, which may send megabytes before our own buffer shrinks. By this
    buffer alone, a client on a slow line would seem to take nothing (tcp(7), SIOCOUTQ).
    """
    unsent = transport.get_write_buffer_size()
    queued = bytearray(4)
    with contextlib.suppress(OSError, ValueError):  # a socket that is closed has no number
        fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, queued)
    return unsent + int.from_bytes(queued, sys.byteorder)
