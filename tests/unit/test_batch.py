"""Many inputs of one request: which runs begin when, and what becomes of the others."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from pgexec import batch as module
from pgexec.batch import Batch, Stopped
from pool.errors import (
    ContainerLost,
    InstallError,
    LeaseTimeout,
    PoolClosed,
    PoolSaturated,
    TenantSaturated,
)

if TYPE_CHECKING:
    from pgexec.service import Progress
    from pool.errors import PoolError

PATIENCE_S = 0.05


class Pool:
    """Runs inputs when it is told to: `enter` gives a container, `end` ends the run."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.cancelled: list[int] = []
        self.ended: list[int] = []
        self.refusals: dict[int, list[PoolError]] = {}
        self._progress: dict[int, Progress] = {}
        self._ends: dict[int, asyncio.Future[str]] = {}

    async def run(self, number: int, progress: Progress) -> str:
        self.asked.append(number)
        if errors := self.refusals.get(number):
            raise errors.pop(0)
        self._progress[number] = progress
        self._ends[number] = asyncio.get_running_loop().create_future()
        try:
            return await self._ends[number]
        except asyncio.CancelledError:
            self.cancelled.append(number)
            raise

    async def enter(self, number: int) -> None:
        self._progress[number].leased()
        await settle()

    async def end(self, number: int, outcome: str | PoolError = "ok") -> None:
        future = self._ends[number]
        if isinstance(outcome, str):
            future.set_result(outcome)
        else:
            future.set_exception(outcome)
        await settle()


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def start(
    pool: Pool, count: int, *, at_once: int = 9, **options: Any
) -> tuple[Batch[str], asyncio.Task[None]]:
    batch = Batch(
        count,
        pool.run,
        lambda number, _: pool.ended.append(number),
        at_once=at_once,
        patience_s=PATIENCE_S,
        **options,
    )
    return batch, asyncio.create_task(batch.run())


def failing(result: str) -> bool:
    return result == "bad"


def full() -> PoolSaturated:
    return PoolSaturated("full", retry_after_s=0.01)


async def test_one_run_waits_for_a_container_and_never_more_are_in_than_the_tenant_may_have() -> (
    None
):
    pool = Pool()
    batch, task = start(pool, 5, at_once=3)
    await settle()
    assert pool.asked == [0]
    await pool.enter(0)
    assert pool.asked == [0, 1]
    await pool.enter(1)
    await pool.enter(2)
    assert pool.asked == [0, 1, 2]
    await pool.end(1)
    assert pool.asked == [0, 1, 2, 3]
    await pool.end(0)
    assert pool.asked == [0, 1, 2, 3]  # 3 still waits
    await pool.enter(3)
    await pool.enter(4)
    for number in (4, 3, 2):
        await pool.end(number, str(number))
    await task
    assert batch.outcomes == {0: "ok", 1: "ok", 2: "2", 3: "3", 4: "4"}
    assert pool.ended == [1, 0, 4, 3, 2]


async def test_it_stops_at_the_first_failure_by_number_and_lets_those_before_it_end() -> None:
    pool = Pool()
    batch, task = start(pool, 6, fails=failing)
    await settle()
    for number in range(4):
        await pool.enter(number)
    await pool.end(3)
    await pool.end(1, "bad")
    assert pool.cancelled == [2, 4]
    assert not task.done()
    await pool.end(0, "bad")
    await task
    assert pool.asked == [0, 1, 2, 3, 4]
    assert {number: batch.outcomes[number] for number in (0, 1, 3)} == {0: "bad", 1: "bad", 3: "ok"}
    stopped = {n: one for n, one in batch.outcomes.items() if isinstance(one, Stopped)}
    assert {n: one.begun for n, one in stopped.items()} == {2: True, 4: False, 5: False}
    assert str(stopped[2]) == "this run was ended, because the one of stdins[1] has failed"
    assert str(stopped[5]) == "this run did not begin, because the one of stdins[0] has failed"


async def test_a_run_that_was_lost_is_a_failure_too_but_no_reason_to_end_where_nobody_asked() -> (
    None
):
    lost = ContainerLost("gone")
    lost.begun = True
    for fails, asked in ((failing, 2), (None, 3)):
        pool = Pool()
        batch, task = start(pool, 3, at_once=2, fails=fails)
        await settle()
        await pool.enter(0)
        await pool.end(0, lost)
        assert batch.outcomes[0] is lost
        for number in range(1, 3):
            if number in pool.asked and number not in batch.outcomes:
                await pool.enter(number)
                await pool.end(number)
        await task
        assert len(pool.asked) == asked
        assert len(batch.outcomes) == 3


async def test_a_cancellation_ends_all_runs() -> None:
    pool = Pool()
    _, task = start(pool, 5)
    await settle()
    await pool.enter(0)
    await pool.enter(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (sorted(pool.cancelled), pool.ended) == ([0, 1, 2], [])


@pytest.mark.parametrize(
    "refusal", [full(), TenantSaturated("8", retry_after_s=1), LeaseTimeout("10", retry_after_s=1)]
)
async def test_a_refused_input_is_tried_again_when_another_of_the_batch_has_ended(
    refusal: PoolError,
) -> None:
    pool = Pool()
    pool.refusals[1] = [refusal]
    batch, task = start(pool, 3)
    await settle()
    await pool.enter(0)
    assert pool.asked == [0, 1]  # and no other tries what has just been refused
    await pool.end(0)
    assert pool.asked == [0, 1, 1]
    for number in (1, 2):
        await pool.enter(number)
        await pool.end(number)
    await task
    assert batch.outcomes == dict.fromkeys(range(3), "ok")


async def test_what_is_refused_at_the_very_begin_is_refused_at_once_and_as_a_whole() -> None:
    pool = Pool()
    pool.refusals[0] = [full()]
    batch, task = start(pool, 3)
    await task
    assert pool.asked == [0]
    assert [str(batch.outcomes[number]) for number in range(3)] == ["full"] * 3


async def test_later_an_input_waits_for_a_place_as_long_as_any_run_before_all_are_refused() -> None:
    pool = Pool()
    pool.refusals[1] = [full(), full()]
    pool.refusals[2] = [full() for _ in range(1000)]
    batch, task = start(pool, 4)
    await settle()
    await pool.enter(0)
    await pool.end(0)
    while len(pool.asked) < 4:
        await asyncio.sleep(0.001)
    await pool.enter(1)
    await pool.end(1)
    await task
    assert [str(batch.outcomes[number]) for number in range(4)] == ["ok", "ok", "full", "full"]
    assert 3 not in pool.asked


@pytest.mark.parametrize("refusal", [PoolClosed("closed"), InstallError("no such package")])
async def test_a_refusal_that_holds_for_all_is_not_tried_again_and_what_runs_goes_on(
    refusal: PoolError,
) -> None:
    pool = Pool()
    pool.refusals[1] = [refusal]
    batch, task = start(pool, 3)
    await settle()
    await pool.enter(0)
    assert (pool.asked, pool.ended) == ([0, 1], [1, 2])
    await pool.end(0)
    await task
    assert batch.outcomes == {0: "ok", 1: refusal, 2: refusal}


async def test_a_container_that_was_lost_before_the_run_costs_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two inputs whose containers go at once do not wait for each other."""
    monkeypatch.setattr(module, "PAUSE_S", 0.001)
    pool = Pool()
    batch, task = start(pool, 2)
    await settle()
    await pool.enter(0)
    await pool.enter(1)
    await pool.end(0, ContainerLost("gone"))
    await pool.end(1, ContainerLost("gone"))
    for number in (1, 0):
        while pool.asked.count(number) < 2:
            await asyncio.sleep(0.001)
        await pool.enter(number)
        await pool.end(number)
    await task
    assert batch.outcomes == {0: "ok", 1: "ok"}


async def test_no_further_input_begins_after_it_was_told_so() -> None:
    pool = Pool()
    batch, task = start(pool, 3)
    await settle()
    await pool.enter(0)
    error = RuntimeError("too much")
    batch.refuse(error)
    await pool.enter(1)
    await pool.end(0)
    await pool.end(1)
    await task
    assert batch.outcomes == {0: "ok", 1: "ok", 2: error}
