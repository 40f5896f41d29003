"""When the pool plans: at a time, by one timer that is set again and again, or soon."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

SOON_S = 0.005
"""`Soon` is so many seconds away: by then a short run is over, whose end has the pool plan, too."""


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


class Soon:
    """Makes one call after `SOON_S`, however many have asked for it."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call
        self._handle: asyncio.Handle | None = None
        self._who: object = None

    def ask(self, who: object = None) -> None:
        """Make the call soon; `who` alone may take that back, unless another asks for it, too."""
        if self._handle is None:
            self._handle = asyncio.get_running_loop().call_later(SOON_S, self._call)
            self._who = who
        elif self._who is not who:
            self._who = None

    def take_back(self, who: object) -> None:
        """Do not make the call if only `who` has asked for it."""
        if self._who is who:
            self.cancel()

    def cancel(self) -> None:
        """Do not make the call."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = self._who = None
