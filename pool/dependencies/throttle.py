"""Slow down the reading of output that foreign code writes."""

from __future__ import annotations

import asyncio

BURST_BYTES = 2 << 20
BYTES_PER_S = 256 << 10
MESSAGE_BYTES = 256
"""A message counts so many bytes more than it has, because each one wakes up the event loop."""


class Throttle:
    """Slows a reader down to `BYTES_PER_S`, after a first `BURST_BYTES`.

    The writer then waits, because its pipe is full. Without this, a program that prints without
    end takes the whole event loop, and every tenant waits for it.
    """

    def __init__(self) -> None:
        self._full_at = asyncio.get_running_loop().time() - BURST_BYTES / BYTES_PER_S

    async def take(self, size: int) -> None:
        """Wait until a message of `size` bytes may be followed by the next one."""
        now = asyncio.get_running_loop().time()
        start = max(self._full_at, now - BURST_BYTES / BYTES_PER_S)
        self._full_at = start + (size + MESSAGE_BYTES) / BYTES_PER_S
        if self._full_at > now:
            await asyncio.sleep(self._full_at - now)
