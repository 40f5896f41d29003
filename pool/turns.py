"""Let large bodies, outputs and answers take turns: one piece in each round of the event loop.

Every other request gets its round between two pieces, however many large ones there are. Without
this, a round would have a piece of each, and a small run needs several rounds.
"""

from __future__ import annotations

import asyncio
from collections import deque
from weakref import WeakKeyDictionary

RENDERED_AT_ONCE = 2
"""So many long answers are made at once; further ones wait with nothing but the run's output."""


class Rounds:
    """The order in which those who have a piece of work to do come to it."""

    def __init__(self) -> None:
        self.rendering = asyncio.Semaphore(RENDERED_AT_ONCE)
        self._waiting: deque[asyncio.Future[None]] = deque()

    def place(self) -> asyncio.Future[None]:
        """Return what is done in a later round of the loop, in which no other one is."""
        loop = asyncio.get_running_loop()
        mine = loop.create_future()
        if not self._waiting:  # else the next round is asked for already
            loop.call_soon(self._next, loop)
        self._waiting.append(mine)
        return mine

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._waiting:
            one = self._waiting.popleft()
            if not one.done():  # else it was cancelled
                one.set_result(None)
                break
        if self._waiting:
            loop.call_soon(self._next, loop)


_rounds: WeakKeyDictionary[asyncio.AbstractEventLoop, Rounds] = WeakKeyDictionary()


def rounds() -> Rounds:
    """Return what all large work of this loop shares."""
    loop = asyncio.get_running_loop()
    if (found := _rounds.get(loop)) is None:
        found = _rounds[loop] = Rounds()
    return found


async def turn() -> None:
    """Wait for a turn among all large work of this loop."""
    await rounds().place()
