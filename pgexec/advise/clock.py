"""An event loop on virtual time, which passes only if nothing else is left to do.

So every timer fires, in order, at once: an hour of a pool takes a moment, and no test waits or
races. If nothing is left that could ever happen, the loop raises an error instead of hanging.
"""

from __future__ import annotations

import asyncio
import selectors
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    Events = list[tuple[selectors.SelectorKey, int]]

BEGIN_S = 1000.0
"""The first time of the clock: not 0, which may mean "never"."""


class ClockLoop(asyncio.SelectorEventLoop):
    """A loop with a clock of its own, for code that touches neither network nor processes.

    Before each step of the clock, `on_pass` is called with its length in seconds: the present state
    will last for so long. It must not call the loop.
    """

    def __init__(self, on_pass: Callable[[float], None] | None = None) -> None:
        self.on_pass = on_pass
        self._now = BEGIN_S
        super().__init__(_Selector(self._pass))

    def time(self) -> float:
        """Return the virtual time, in seconds."""
        return self._now

    def _pass(self, seconds: float) -> None:
        if self.on_pass is not None:
            self.on_pass(seconds)
        self._now += seconds


class _Selector(selectors.DefaultSelector):
    """Does not wait, but tells how long it should have waited."""

    def __init__(self, wait: Callable[[float], None]) -> None:
        super().__init__()
        self._wait = wait

    def select(self, timeout: float | None = None) -> Events:
        events: Events = super().select(0)
        if events or timeout == 0:
            return events
        if timeout is None:
            raise RuntimeError("deadlock: everybody waits, and no timer is set")
        self._wait(timeout)
        return []
