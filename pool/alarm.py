"""One timer that is set again and again."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


class Alarm:
    """Calls `ring` with the time for which it was set, in the clock that `now` reads.

    The loop's timer may fire a moment before that time: it counts on a clock of its own, and that
    of uvloop in milliseconds. `ring` is to take the time that it is given for the present.
    """

    def __init__(self, ring: Callable[[float], None], now: Callable[[], float]) -> None:
        self._call = ring
        self._now = now
        self._when = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def set(self, when: float, loop: asyncio.AbstractEventLoop) -> None:
        """Ring no later than `when`; `math.inf` is never.

        An earlier one stays: ringing too early only makes the pool plan again, and so most
        plans leave the timer alone.
        """
        if self._timer is not None:
            if self._when <= when:
                return
            self.cancel()
        if when < math.inf:
            self._when = when
            self._timer = loop.call_later(max(0.0, when - self._now()), self._ring, when)

    def cancel(self) -> None:
        """Ring no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self, when: float) -> None:
        self._timer = None
        self._call(when)
