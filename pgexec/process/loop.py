"""How late the event loop is: what everything that waits for it pays besides."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

EVERY_S = 0.25


async def sample_lag(observe: Callable[[float], None]) -> None:
    """Tell, four times a second and until cancelled, how late a timer was, in seconds.

    Timers of uvloop count whole milliseconds: a lag below one is an idle loop's.
    """
    while True:
        due = time.perf_counter() + EVERY_S
        await asyncio.sleep(EVERY_S)
        observe(max(0.0, time.perf_counter() - due))
