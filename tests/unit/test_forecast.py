"""A lease that cannot come in time is refused at once, and nobody else is."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pool.errors import LeaseTimeout, PoolSaturated
from pool.forecast import STANDING_S, least_wait, retry_after
from pool.observer import Rejection
from tests.unit.fake_engine import FakeEngine
from tests.unit.rig import Rig, quiet, rig

pytestmark = pytest.mark.clock

TURN_S = 4.0
LEASE_TIMEOUT_S = 10.0
CONFIG: dict[str, Any] = {
    "max_containers": 2,
    "min_idle": 2,
    "max_waiting": 50,
    "lease_timeout_s": LEASE_TIMEOUT_S,
}


async def take_turns(pool: Rig, turns: int) -> None:
    """Let every container be used for as long as a turn, so many times."""
    for _ in range(turns):
        await asyncio.sleep(TURN_S)
        for container in pool.engine.containers.values():
            if container.busy:
                container.finish()
        await quiet()


async def crowd(pool: Rig, size: int) -> list[asyncio.Task[Any]]:
    return [await pool.client(b"hang") for _ in range(size)]


async def test_who_cannot_be_served_in_time_is_refused_at_once() -> None:
    async with rig(**CONFIG) as pool:
        await crowd(pool, 2)
        await take_turns(pool, 1)
        waiting = await crowd(pool, 2 + 6)
        await asyncio.sleep(STANDING_S)
        began = asyncio.get_running_loop().time()
        with pytest.raises(PoolSaturated, match=r"6 runs .* takes longer than 10 s") as caught:
            await pool.run()
        assert not isinstance(caught.value, LeaseTimeout)
        assert asyncio.get_running_loop().time() == began
        assert caught.value.retry_after_s == pytest.approx((6 + 1) * TURN_S / 2, rel=0.01)
        assert pool.seen.rejections == [Rejection.SATURATED]
        assert pool.pool.snapshot().unready is not None
        assert not any(one.done() for one in waiting)
        # Who came before is served in time.
        await take_turns(pool, 1)
        assert pool.now.unready is None
        await take_turns(pool, 3)
        await asyncio.gather(*waiting, return_exceptions=True)


async def test_who_has_the_patience_may_wait() -> None:
    async with rig(**CONFIG) as pool:
        await crowd(pool, 2)
        await take_turns(pool, 1)
        await crowd(pool, 2 + 6)
        await asyncio.sleep(STANDING_S)
        patient = await pool.client(b"hang", timeout_s=2 * LEASE_TIMEOUT_S)
        assert pool.now.waiting == 7
        await take_turns(pool, 5)
        assert patient.done()
        assert patient.exception() is None


async def test_a_burst_after_slow_runs_is_not_taken_for_slow() -> None:
    async with rig(**CONFIG) as pool:
        await crowd(pool, 2)
        await take_turns(pool, 1)
        burst = [pool.spawn(pool.run()) for _ in range(40)]
        await asyncio.gather(*burst)
        assert pool.seen.rejections == []


async def test_a_queue_that_was_empty_in_between_has_not_stood() -> None:
    async with rig(**CONFIG) as pool:
        await crowd(pool, 2 + 1)
        await take_turns(pool, 2)
        await asyncio.sleep(STANDING_S)
        await crowd(pool, 2 + 6 + 1)
        assert pool.now.waiting == 7
        assert pool.seen.rejections == []
        await take_turns(pool, 4)


async def test_before_the_first_turn_nothing_is_known() -> None:
    """What a start takes says nothing about how long the runs will."""
    async with rig(FakeEngine(start_s=TURN_S), **CONFIG) as pool:
        await asyncio.sleep(2 * TURN_S)
        await crowd(pool, 2 + 8)
        await asyncio.sleep(STANDING_S)
        assert pool.pool._forecast.turn_s == TURN_S
        await crowd(pool, 1)
        assert pool.now.waiting == 9
        assert pool.seen.rejections == []


async def test_a_tenant_is_refused_for_its_own_queue_only() -> None:
    async with rig(**CONFIG) as pool:
        await crowd(pool, 2)
        await take_turns(pool, 1)
        await crowd(pool, 2 + 6)
        await asyncio.sleep(STANDING_S)
        with pytest.raises(PoolSaturated):
            await pool.run()
        other = await pool.client(b"hang", tenant="other")
        assert pool.now.waiting == 7
        assert not other.done()
        other.cancel()
        await take_turns(pool, 4)


def test_the_longer_the_queue_the_later_to_come_back_but_never_at_once() -> None:
    assert retry_after(0, 0.0, 4) == 1
    assert retry_after(39, 3.0, 4) == 30


def test_who_has_fewer_before_it_than_there_are_containers_may_not_wait_at_all() -> None:
    assert [least_wait(ahead, 3.0, 4) for ahead in (0, 3, 4, 7, 8)] == [0, 0, 3, 3, 6]
