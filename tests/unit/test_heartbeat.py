"""When the server takes the engine for silent."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import pytest

from pgexec.backend.heartbeat import Heartbeat

if TYPE_CHECKING:
    from pgexec.backend.sweeper import Sweeper
    from pool.engine.docker import DockerEngine
    from pool.manager import PoolManager


class Slow:
    """An engine that takes two seconds for each answer."""

    async def paused(self, label: str) -> list[str]:
        await asyncio.sleep(2)
        return []

    def renegotiate(self) -> None: ...


class Pool:
    """Keeps what it is told of the engine."""

    def __init__(self) -> None:
        self.doubts: list[str | None] = []

    def doubt(self, reason: str | None) -> None:
        self.doubts.append(reason)


@pytest.mark.clock
@pytest.mark.parametrize(
    ("start_timeout_s", "doubt"),
    [
        (30, "no good answer from the engine: no answer within 1 s"),
        (5, "no good answer from the engine: no answer within 1 s"),
        (300, None),
    ],
)
async def test_an_engine_on_a_slow_machine_has_more_time_to_answer(
    start_timeout_s: float, doubt: str | None
) -> None:
    pool = Pool()
    pools = {"python": cast("PoolManager", pool)}
    heartbeat = Heartbeat(
        cast("DockerEngine", Slow()), "", pools, {}, cast("Sweeper", None), start_timeout_s
    )
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(20):
            await heartbeat.listen()
    assert set(pool.doubts) == {doubt}
