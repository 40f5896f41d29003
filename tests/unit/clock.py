"""An event loop whose time passes only when nothing else is left to do.

So every timer fires, in order, at once, and no test waits or races; and where nothing is
left that could ever happen, the test fails instead of hanging.
"""

from __future__ import annotations

import asyncio
import selectors

Events = list[tuple[selectors.SelectorKey, int]]


class _Selector(selectors.DefaultSelector):
    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def select(self, timeout: float | None = None) -> Events:
        events: Events = super().select(0)
        if events or timeout == 0:
            return events
        if timeout is None:
            raise RuntimeError("deadlock: everybody waits, and no timer is set")
        self.now += timeout
        return []


class ClockLoop(asyncio.SelectorEventLoop):
    """A loop with a clock of its own, for code that touches neither network nor processes."""

    def __init__(self) -> None:
        self._clock = _Selector()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now
