"""What the containers of one profile are started from: made once, and again when it has gone."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from pool.errors import EngineUnavailable, PoolError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pool.engine.spec import ContainerSpec
    from pool.manager import PoolManager

logger = logging.getLogger("pgexec")

LOOK_EVERY_S = 1.0
PREPARE_PAUSE_S = 30.0


class Preparation:
    """Has the spec of a pool's containers, once what it names exists.

    `prepare` makes that exist; `what` names it in sentences.
    """

    def __init__(self, what: str, prepare: Callable[[], Awaitable[ContainerSpec]]) -> None:
        self.refused = False
        """Whether containers come up, and then will not do what they are told."""
        self._what = what
        self._prepare = prepare
        self._task: asyncio.Task[ContainerSpec] | None = None
        self._outdated = asyncio.Event()  # what was prepared has been removed since

    async def spec(self) -> ContainerSpec:
        """Return the spec. Raises what `prepare` raises.

        All callers share one preparation; one that fails is tried again by the next.
        """
        task = self._task
        if task is None or (task.done() and (task.cancelled() or task.exception())):
            task = self._task = asyncio.create_task(self._run(), name=f"prepare {self._what}")
        return await asyncio.shield(task)

    def discard(self) -> None:
        """Prepare anew next time: what was prepared is not there any more."""
        self._task = None
        self._outdated.set()

    async def keep(self, pool: PoolManager) -> None:
        """Let the pool start containers only while there is what they are started from; forever."""
        while True:
            pool.pause(self.reason)
            await self._until_prepared(pool)
            pool.resume()
            await self._outdated.wait()
            self._outdated.clear()

    async def close(self) -> None:
        """Cancel what goes on."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])

    @property
    def reason(self) -> str:
        """Why no containers are started yet."""
        return f"preparing {self._what}"

    async def _run(self) -> ContainerSpec:
        return await self._prepare()

    async def _until_prepared(self, pool: PoolManager) -> None:
        pause_s, told = LOOK_EVERY_S, ""
        while True:
            try:
                await self.spec()
            except (PoolError, OSError) as error:
                sentence = f"cannot prepare {self._what}: {error}"
                if sentence != told:
                    logger.warning(sentence)
                told = sentence
                pool.pause(sentence)
                # An engine that is away is asked again soon; a registry is left in peace.
                away = isinstance(error, EngineUnavailable)
                pause_s = LOOK_EVERY_S if away else min(PREPARE_PAUSE_S, 2 * pause_s)
                await asyncio.sleep(pause_s)
            else:
                return
