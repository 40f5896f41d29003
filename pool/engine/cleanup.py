"""Remove containers until they are gone, through failures and cancellations."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from pool.errors import PoolError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

logger = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 5.0


async def see_through(cleanup: Coroutine[object, object, None]) -> None:
    """Await a clean-up to its end. A cancellation meanwhile is raised when it has ended.

    So the caller, which holds a slot of the pool, keeps it until the container has gone. Only the
    end of the loop, which cancels the clean-up itself, cuts this short.
    """
    # A task of its own: if it were awaited directly, a cancellation of the caller would stop the
    # clean-up and leave a container behind that nobody knows of.
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


def backoff(
    failures: int, *, first_s: float = FIRST_PAUSE_S, longest_s: float = LONGEST_PAUSE_S
) -> float:
    """Return the seconds to wait after `failures` failures in a row.

    The wait doubles from `first_s` up to `longest_s`: by default 0.5, 1, 2, 4, 5, 5 ...
    """
    doublings = min(failures - 1, 32)
    return min(longest_s, first_s * 2.0**doublings)


async def until_removed(
    container_id: str,
    remove: Callable[[], Awaitable[None]],
    *,
    pause_s: Callable[[int], float] = backoff,
    give_up: Callable[[int], bool] = lambda _failures: False,
) -> None:
    """Call `remove` until it succeeds; log the first failure.

    After each failure, `pause_s` and `give_up` are called with the number of failures so far.
    `pause_s` returns the seconds to wait. If `give_up` returns True, the `PoolError` is raised.
    """
    failures = 0
    while True:
        try:
            await remove()
        except PoolError as error:
            failures += 1
            if failures == 1:
                logger.warning("cannot remove container %s: %s", container_id[:12], error)
            if give_up(failures):
                raise
        else:
            return
        await asyncio.sleep(pause_s(failures))
