"""Clean up after what failed, whoever loses patience meanwhile."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from pool.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

logger = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 5.0


async def see_through(cleanup: Coroutine[object, object, None]) -> None:
    """Await a clean-up to its end; cancellations meanwhile are raised when it has ended.

    So whoever counts the caller among what exists does so until nothing is left of it. Only
    the end of the loop, which cancels the clean-up itself, cuts this short.
    """
    task = asyncio.create_task(cleanup, name="clean up")
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
    task.result()


async def until_removed(container_id: str, remove: Callable[[], Awaitable[None]]) -> None:
    """Call `remove` until the engine has done it."""
    pause_s = FIRST_PAUSE_S
    while True:
        try:
            await remove()
        except EngineError as error:
            if pause_s == FIRST_PAUSE_S:
                logger.warning("cannot remove container %s: %s", container_id[:12], error)
        else:
            return
        await asyncio.sleep(pause_s)
        pause_s = min(LONGEST_PAUSE_S, 2 * pause_s)
