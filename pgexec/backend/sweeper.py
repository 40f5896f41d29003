"""Remove containers that no pool knows: of servers that have gone, and own ones not up."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from typing import TYPE_CHECKING

from pgexec.backend.preparation import LOOK_EVERY_S
from pool.engine.api import Leak
from pool.engine.ownership import is_abandoned, is_left_over
from pool.engine.spec import LABEL, LABEL_INSTANCE
from pool.errors import EngineError, PoolError

if TYPE_CHECKING:
    from pool.engine.docker import DockerEngine

logger = logging.getLogger("pgexec")

SWEEP_EVERY_S = 60.0
CLEAR_S = 10.0


class Sweeper:
    """Sweeps the engine every minute, and sooner after the engine failed.

    `lifetime_s` is the time from a container's start to the expiry that its labels name. A
    container that is not up `give_up_s` seconds after its start will not come up any more.
    """

    def __init__(
        self, engine: DockerEngine, instance: str, *, lifetime_s: float, give_up_s: float
    ) -> None:
        self._engine = engine
        self._instance = instance
        self._lifetime_s = lifetime_s
        self._give_up_s = give_up_s
        self._sweep_at = self._failed_at = -math.inf

    def start_failed(self) -> None:
        """Sweep as soon as the container of the start that has just failed is old enough."""
        self._failed_at = time.monotonic()
        self._sweep_at = min(self._sweep_at, self._failed_at + self._give_up_s + LOOK_EVERY_S)

    def engine_is_back(self) -> None:
        """Sweep soon: the engine may have been killed, and its containers left half removed."""
        self._sweep_at = min(self._sweep_at, time.monotonic() + LOOK_EVERY_S)

    async def attend(self) -> None:
        """Sweep when it is time; forever."""
        while True:
            try:
                if time.monotonic() >= self._sweep_at:
                    now = time.monotonic()
                    # The container of the last failed start is too young for this sweep.
                    then = self._failed_at + self._give_up_s + LOOK_EVERY_S
                    self._sweep_at = then if then > now else now + SWEEP_EVERY_S
                    await self.sweep()
            except PoolError as error:
                logger.debug("the engine does not answer: %s", error)
            await asyncio.sleep(LOOK_EVERY_S)

    async def sweep(self) -> None:
        """Remove containers whose server has gone, and our own that the pool cannot know."""
        now = time.time()
        expires_before = now - self._give_up_s + self._lifetime_s
        for container in await self._engine.owned(LABEL):
            if is_left_over(container, now=now):
                logger.info("removing %s, which another server left over", container.id[:12])
                self._engine.observer.leaked(Leak.LEFT_OVER)
            elif is_abandoned(container, self._instance, expires_before=expires_before):
                logger.info("removing %s, which never came up", container.id[:12])
                self._engine.observer.leaked(Leak.NEVER_CAME_UP)
            else:
                continue
            await self._remove(container.id)

    async def clear(self) -> None:
        """Remove all containers of this server. Its pools are closed, and know none of them."""
        with contextlib.suppress(PoolError, TimeoutError):
            async with asyncio.timeout(CLEAR_S):
                for container in await self._engine.owned(f"{LABEL_INSTANCE}={self._instance}"):
                    await self._remove(container.id)

    async def _remove(self, container_id: str) -> None:
        try:
            await self._engine.remove(container_id)
        except EngineError as error:
            logger.warning("cannot remove container %s: %s", container_id[:12], error)
