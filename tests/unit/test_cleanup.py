"""Containers are removed until they are gone."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import deque

import pytest

from pool.engine.cleanup import backoff, until_removed
from pool.errors import EngineError, PoolError
from pool.sizing.recycling import Reason
from tests.unit.fake_engine import FakeEngine
from tests.unit.rig import rig

pytestmark = pytest.mark.clock


class Engine:
    """Fails to remove so often, and notes when it was asked."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.asked_at: list[float] = []

    async def remove(self) -> None:
        self.asked_at.append(asyncio.get_running_loop().time())
        if len(self.asked_at) <= self.failures:
            raise EngineError("busy")

    @property
    def pauses(self) -> list[float]:
        times = self.asked_at
        return [round(later - at, 3) for at, later in itertools.pairwise(times)]


def test_the_back_off_doubles_up_to_its_bound() -> None:
    pauses = [backoff(failures, first_s=0.5, longest_s=30) for failures in (1, 2, 3, 7, 10**6)]
    assert pauses == [0.5, 1, 2, 30, 30]


async def test_a_removal_is_tried_ever_more_slowly_and_complained_of_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    engine = Engine(failures=6)
    with caplog.at_level(logging.WARNING):
        await until_removed("c" * 64, engine.remove)
    assert engine.pauses == [0.5, 1, 2, 4, 5, 5]
    assert caplog.messages == ["cannot remove container cccccccccccc: busy"]


async def test_a_removal_that_is_given_up_raises_the_last_failure() -> None:
    engine = Engine(failures=9)
    with pytest.raises(PoolError, match="busy"):
        await until_removed(
            "c", engine.remove, pause_s=lambda _: 2, give_up=lambda failures: failures >= 3
        )
    assert engine.pauses == [2, 2]


async def test_a_pool_tries_again_after_an_error_that_nobody_expected() -> None:
    engine = FakeEngine(remove_errors=deque([RuntimeError("a bug")]))
    async with rig(engine, max_containers=1, backoff_first_s=1) as pool:
        await pool.run(b"timeout")
        assert pool.now.destroying == 1
        await asyncio.sleep(2)
        assert (pool.now.destroying, pool.now.idle) == (0, 1)
        assert pool.seen.destroys == {Reason.TIMEOUT: 1}
