"""What a client of the protocol is told while a run goes on, as `notifications/progress`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pgexec.client import RunEvent

    Report = Callable[[float, float | None, str | None], Awaitable[None]]

PAUSE_S = 0.25
MAX_CHARS = 200


class Notices:
    """Passes on what happens, at most four times a second; what comes in between is left out.

    `report` takes a number that grows, the number at the end (unknown here), and a message.
    """

    def __init__(self, report: Report, clock: Callable[[], float] = time.monotonic) -> None:
        self._report = report
        self._clock = clock
        self._next_at = 0.0
        self._number = 0

    async def tell(self, event: RunEvent) -> None:
        """Tell what an event says, if it is time and there is anything to say."""
        await self.say(message_of(event))

    async def say(self, message: str) -> None:
        """Tell a message, if it is time and it is not empty."""
        if not message or self._clock() < self._next_at:
            return
        self._number += 1
        await self._report(self._number, None, message)
        self._next_at = self._clock() + PAUSE_S


def message_of(event: RunEvent) -> str:
    """Return a line on an event: the last line of output, or an empty text if there is none."""
    match event.kind:
        case "queue":
            return f"waiting for a container, place {event.position}"
        case "install":
            return f"installing: {_last_line(event.text)}"
        case "stdout" | "stderr":
            return _last_line(event.text)
        case _:
            return ""


def _last_line(text: str) -> str:
    lines = text.rstrip().splitlines()
    return lines[-1][:MAX_CHARS] if lines else ""
