"""How fast a client takes its answers: one that takes nothing, or too little, is disconnected.

What it has not taken fills memory. Only the time counts in which the transport is full: a client
that keeps up is not watched, however little there is to send.
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
"""What a client must take while it is behind, 64 kbit/s: a bad line over a telephone manages."""


class Pace:
    """Watches one client between `behind` and `caught_up`; never longer than it must."""

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
        """Whether the client is behind."""
        return self._timer is not None

    def behind(self, transport: asyncio.Transport) -> None:
        """Begin to watch a client whose transport is full."""
        self.stop()
        self._began = self._loop.time()
        self._untaken = untaken_bytes(transport)
        self._timer = self._loop.call_later(self._timeout_s, self.look, transport, self._untaken)

    def caught_up(self, transport: asyncio.Transport | None) -> None:
        """Stop watching, but for what the client took meanwhile, which counts the next time."""
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
        """Count the time since the last look, and judge once it is long enough."""
        self._seconds += self._loop.time() - self._began
        self._bytes += max(0, self._untaken - untaken_bytes(transport))
        if self._seconds < self._timeout_s:
            return False
        late = self._bytes < LEAST_BYTES_PER_S * self._seconds
        self._seconds, self._bytes = 0.0, 0
        return late


def untaken_bytes(transport: asyncio.Transport) -> int:
    """Return how much of what was written the client's side has not acknowledged yet.

    Most of it is in the kernel, where megabytes may move before our own buffer shrinks: by
    that alone a client on a slow line would seem to take nothing (tcp(7), SIOCOUTQ).
    """
    unsent = transport.get_write_buffer_size()
    queued = bytearray(4)
    with contextlib.suppress(OSError, ValueError):  # a socket that is closed has no number
        fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, queued)
    return unsent + int.from_bytes(queued, sys.byteorder)
