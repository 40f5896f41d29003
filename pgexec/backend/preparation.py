"""Prepare the image and the layer of one profile: once, and again when they have gone."""

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
    """Has the spec of a pool's containers, once the things that it names exist.

    `prepare` makes them and returns the spec; `what` names them in sentences.
    """

    def __init__(self, what: str, prepare: Callable[[], Awaitable[ContainerSpec]]) -> None:
        self.refused = False
        """True if containers start, but then refuse their task, such as a pre-import."""
        self._what = what
        self._prepare = prepare
        self._task: asyncio.Task[ContainerSpec] | None = None
        self._outdated = asyncio.Event()  # the prepared things have been removed since

    async def spec(self) -> ContainerSpec:
        """Return the spec. Raises the errors of `prepare`.

        All callers share one preparation. If it fails, the next caller tries again.
        """
        task = self._task
        if task is None or (task.done() and (task.cancelled() or task.exception())):
            task = self._task = asyncio.create_task(self._run(), name=f"prepare {self._what}")
        return await asyncio.shield(task)

    def discard(self) -> None:
        """Prepare again next time: the prepared things are not there any more."""
        self._task = None
        self._outdated.set()

    async def keep(self, pool: PoolManager) -> None:
        """Let the pool start containers only while the spec is prepared; forever."""
        while True:
            pool.pause(self.reason)
            await self._until_prepared(pool)
            pool.resume()
            await self._outdated.wait()
            self._outdated.clear()

    async def close(self) -> None:
        """Cancel a preparation that goes on."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])

    @property
    def reason(self) -> str:
        """The reason why containers cannot start yet."""
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
                # If the engine is away, try again soon; but do not ask a registry so often.
                away = isinstance(error, EngineUnavailable)
                pause_s = LOOK_EVERY_S if away else min(PREPARE_PAUSE_S, 2 * pause_s)
                await asyncio.sleep(pause_s)
            else:
                return
