"""Notice that the engine is silent, that it is back, and that somebody has paused a container."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from pool.engine.spec import LABEL_INSTANCE
from pool.errors import PoolError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pgexec.backend.preparation import Preparation
    from pgexec.backend.sweeper import Sweeper
    from pool.engine.docker import DockerEngine
    from pool.manager import PoolManager

logger = logging.getLogger("pgexec")

HEARTBEAT_S = 0.5
HEARTBEAT_TIMEOUT_S = 1.0
"""For an engine whose starts may take `_START_TIMEOUT_S`; as many times longer as they may."""
_START_TIMEOUT_S = 30.0


class Heartbeat:
    """Asks the engine twice a second, and tells the pools and the sweeper about its answer."""

    def __init__(
        self,
        engine: DockerEngine,
        instance: str,
        pools: Mapping[str, PoolManager],
        preparations: Mapping[str, Preparation],
        sweeper: Sweeper,
        start_timeout_s: float,
    ) -> None:
        self._engine = engine
        self._instance = instance
        self._pools = pools
        self._preparations = preparations
        self._sweeper = sweeper
        self._patience_s = HEARTBEAT_TIMEOUT_S * max(1.0, start_timeout_s / _START_TIMEOUT_S)

    async def listen(self) -> None:
        """Tell within its patience and a beat that the engine is silent, or back; forever.

        Without this, the pool would take a paused container, or one of an engine that hangs, for
        idle: neither ends a stream.
        """
        silent = False
        while True:
            try:
                async with asyncio.timeout(self._patience_s):
                    paused = await self._engine.paused(f"{LABEL_INSTANCE}={self._instance}")
            except (PoolError, TimeoutError) as error:
                sentence = str(error) or f"no answer within {self._patience_s:g} s"
                if not silent:
                    logger.warning("no good answer from the engine: %s", sentence)
                silent = True
                for pool in self._pools.values():
                    pool.doubt(f"no good answer from the engine: {sentence}")
                self._engine.renegotiate()
            else:
                self._heard(paused, again=silent)
                silent = False
            await asyncio.sleep(HEARTBEAT_S)

    def _heard(self, paused: Sequence[str], *, again: bool) -> None:
        """Tell the pools that the engine answers, and which containers somebody has paused."""
        if again:
            logger.info("the engine answers again")
            self._sweeper.engine_is_back()
        if paused:
            logger.warning("somebody paused %s", ", ".join(one[:12] for one in paused))
        for language, pool in self._pools.items():
            pool.doubt(None)
            # An engine that is back does not change what an import leaves behind.
            if again and not self._preparations[language].refused:
                pool.retry()
            if paused:
                pool.lose(paused)
