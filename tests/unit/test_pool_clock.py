"""The pool measures and decides by one clock, which need not be the one of its loop's timers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from pool import PoolConfig, PoolManager
from pool.alarm import Alarm
from tests.unit.fake_engine import FakeEngine
from tests.unit.rig import Recorder

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.clock

HOLD_S = 2.0
BURST = 6


def behind(rate: float) -> Callable[[], float]:
    """Return a clock that is so much slower than the loop's, so that timers fire early."""
    loop = asyncio.get_running_loop()
    return lambda: rate * loop.time()


async def held(pool: PoolManager) -> None:
    async with pool.lease():
        await asyncio.sleep(HOLD_S)


async def test_a_pool_shrinks_in_time_though_each_timer_fires_early() -> None:
    """The timers of uvloop do so, by up to a millisecond; nothing but they may wake the pool."""
    config = PoolConfig(min_idle=1, idle_timeout_s=20)
    async with PoolManager(FakeEngine().launcher(), config, clock=behind(0.9999)) as pool:
        await asyncio.sleep(1)
        await asyncio.gather(*(held(pool) for _ in range(BURST)))
        await asyncio.sleep(1)
        assert pool.snapshot().idle >= BURST
        await asyncio.sleep(2 * config.idle_timeout_s + 2)
        assert pool.snapshot().idle == config.min_idle


async def test_waits_and_starts_are_measured_by_the_pools_clock() -> None:
    seen = Timed()
    config = PoolConfig(min_idle=0, max_containers=1, autoscale=False)
    engine = FakeEngine(start_s=2.0)
    async with (
        PoolManager(engine.launcher(), config, observer=seen, clock=behind(0.5)) as pool,
        pool.lease() as lease,
    ):
        assert lease.queued_s == pytest.approx(1.0)
        assert lease.start_s == pytest.approx(1.0)
    assert seen.seconds == pytest.approx([1.0])


async def test_an_alarm_that_is_early_passes_on_the_time_for_which_it_was_set() -> None:
    rung: list[float] = []
    clock = behind(0.5)
    now = clock()
    alarm = Alarm(rung.append, clock)
    alarm.set(now + 10, asyncio.get_running_loop())
    alarm.set(now + 20, asyncio.get_running_loop())  # an earlier one stays
    await asyncio.sleep(10)
    assert rung == [now + 10]
    assert clock() < now + 10
    await asyncio.sleep(30)
    assert rung == [now + 10]


class Timed(Recorder):
    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def leased(self, source: object, waited_s: float) -> None:
        self.seconds.append(waited_s)
