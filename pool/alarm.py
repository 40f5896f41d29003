"""One timer, which the pool sets again and again."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


class Alarm:
    """Calls `ring` with the time for which it was set, in seconds of the clock `now`.

    The loop's timer may fire a moment before that time, because the loop has a clock of its own;
    uvloop's ticks in milliseconds. So `ring` must treat the time that it gets as the present.
    """

    def __init__(self, ring: Callable[[float], None], now: Callable[[], float]) -> None:
        self._call = ring
        self._now = now
        self._when = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def set(self, when: float, loop: asyncio.AbstractEventLoop) -> None:
        """Ring no later than `when`; `math.inf` means never.

        An earlier alarm stays. It only makes the pool plan once more, and so most plans need not
        touch the timer.
        """
        if self._timer is not None:
            if self._when <= when:
                return
            self.cancel()
        if when < math.inf:
            self._when = when
            self._timer = loop.call_later(max(0.0, when - self._now()), self._ring, when)

    def cancel(self) -> None:
        """Stop the timer: `ring` is not called any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self, when: float) -> None:
        self._timer = None
        self._call(when)
