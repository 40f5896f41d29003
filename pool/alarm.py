"""One timer that is set again and again."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


class Alarm:
    """Calls `ring` with the time for which it was set; a late one is drawn forward."""

    def __init__(self, ring: Callable[[float], None]) -> None:
        self._call = ring
        self._timer: asyncio.TimerHandle | None = None

    def set(self, when: float, loop: asyncio.AbstractEventLoop) -> None:
        """Ring no later than `when`, in the loop's clock; `math.inf` is never.

        An earlier one stays: ringing too early only makes the pool plan again, and so most
        plans leave the timer alone.
        """
        if self._timer is not None:
            if self._timer.when() <= when:
                return
            self.cancel()
        if when < math.inf:
            self._timer = loop.call_at(when, self._ring, when)

    def cancel(self) -> None:
        """Ring no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self, when: float) -> None:
        self._timer = None
        self._call(when)
