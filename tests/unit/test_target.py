"""The target of idle containers: its function, what it is told, and what the pool does with it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool.config import PoolConfig
from pool.sizing import target as tuning
from pool.sizing.demand import DemandMeter
from pool.sizing.planning import View, plan
from pool.sizing.target import MEMORY_S, Demand, target
from tests.unit.rig import rig

if TYPE_CHECKING:
    from collections.abc import Iterable

CONFIG = PoolConfig(min_idle=2, max_containers=16, idle_timeout_s=300)


# --- the function -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("demand", "in_use", "idle"),
    [
        (Demand(), 0, 2),  # nothing has come: the least
        (Demand(level=6, before=6), 0, 6),  # as many as were needed
        (Demand(level=6, before=6), 5, 2),  # less those that are in use, but never below
        (Demand(level=6, before=4), 0, 8),  # the long window is outgrown
        (Demand(level=60), 0, 16),  # never above the most
        (Demand(level=1, before=1, expected=9), 0, 9),  # a timer is about to fire
        (Demand(long_per_s=10, recycled=0.0, start_s=0.4), 0, 8),  # 4 away, and a margin
        (Demand(short_per_s=10, recycled=0.0, start_s=0.4), 0, 8),
        (Demand(short_per_s=10, recycled=1.0, start_s=0.4), 0, 2),
    ],
)
def test_the_target_follows_demand_between_its_bounds(
    demand: Demand, in_use: int, idle: int
) -> None:
    assert target(demand, in_use, CONFIG) == idle


demands = st.builds(
    Demand,
    short_per_s=st.floats(0, 1e4),
    long_per_s=st.floats(0, 1e4),
    level=st.integers(0, 500),
    before=st.integers(0, 500),
    expected=st.integers(0, 500),
    start_s=st.floats(0, 60),
    recycled=st.floats(0, 1),
)


@given(demands, st.integers(0, 16))
def test_the_target_never_leaves_its_bounds(demand: Demand, in_use: int) -> None:
    assert 2 <= target(demand, in_use, CONFIG) <= 16
    assert target(demand, in_use, PoolConfig(min_idle=2, autoscale=False)) == 2


def test_the_plan_starts_up_to_the_target_and_evicts_down_to_it() -> None:
    config = PoolConfig(min_idle=1, max_containers=9, start_concurrency=9)
    assert plan(View(demand=Demand(level=5, before=5)), config, 0.0).start == 5
    assert plan(View(leased=2, demand=Demand(level=5, before=5)), config, 0.0).start == 3
    assert plan(View(demand=Demand(until=7.0)), config, 0.0).wake_at == 7


# --- timers -------------------------------------------------------------------------------------


def ring(peaks: dict[int, int]) -> list[int]:
    levels = [0] * MEMORY_S
    for second, peak in peaks.items():
        levels[second % MEMORY_S] = peak
    return levels


@pytest.mark.parametrize(
    ("peaks", "expected"),
    [
        ({}, 0),
        ({6400: 9}, 0),  # once is no interval
        ({5800: 9, 6400: 7}, 7),  # the smaller one is certain
        ({5801: 9, 6399: 7}, 7),  # a second early or late
        ({5797: 9, 6400: 7}, 0),
        ({0: 9, 3600: 8}, 0),  # too early for the next hour
        ({-200: 9, 3400: 8}, 8),
    ],
)
def test_what_came_twice_at_the_same_interval_is_expected_again(
    peaks: dict[int, int], expected: int
) -> None:
    assert tuning.expected(ring(peaks), 6998, 3) == expected


# --- what is measured ---------------------------------------------------------------------------


def heard(arrivals: Iterable[tuple[float, int]], until: float) -> tuple[DemandMeter, Demand]:
    """Tell a meter of arrivals (when, at what level) as a pool does, and look at the end."""
    meter = DemandMeter(CONFIG)
    for when, level in arrivals:
        meter.arrived(when, level)
        meter.demand(when, level, 0.5)
    return meter, meter.demand(until, 0, 0.5)


def test_arrivals_are_counted_over_a_short_and_a_long_window() -> None:
    _, demand = heard(((100 + second, 1) for second in range(20)), 120)
    assert (demand.short_per_s, demand.long_per_s) == (1.0, 20 / 300)
    _, demand = heard(((100 + second, 1) for second in range(20)), 700)
    assert (demand.short_per_s, demand.long_per_s) == (0, 0)


def test_a_second_that_was_closed_stays_closed() -> None:
    """An alarm may ring a moment before its second, and a plan come in that moment."""
    meter, demand = heard([(100.2, 3)], 101)
    assert meter.demand(100.9997, 0, 0.5) == demand
    assert meter.demand(100.9998, 7, 0.5).until == 102


def test_the_level_falls_when_the_idle_timeout_has_passed_and_is_remembered_before() -> None:
    assert heard([(100, 7)], 101)[1].level == 7
    assert heard([(100, 7)], 400)[1].level == 7
    assert heard([(100, 7)], 402)[1].level == 0
    assert heard([(100, 7)], 300)[1].before == 0
    assert heard([(100, 7)], 500)[1].before == 7
    assert heard([(100, 7)], 4000)[1].before == 0


def test_a_burst_is_seen_before_its_second_is_over() -> None:
    meter, _ = heard([(100, 1)], 100)
    assert meter.demand(100.5, 6, 0.5).level == 6


def test_nothing_is_looked_at_any_more_once_all_is_forgotten() -> None:
    assert heard([(100, 7)], 101)[1].until == 102
    assert heard([(100, 7)], 200 + MEMORY_S)[1].until == float("inf")
    assert heard([], 100)[1].until == float("inf")


def test_a_rise_is_what_idle_containers_have_to_cover() -> None:
    """Four in use all the time need none; five more at once need five."""
    steady = [(100.0 + second, 5) for second in range(10)]
    meter, _ = heard([*steady, *((109.0, level) for level in range(6, 11))], 111)
    assert sum(meter.levels) == sum(meter.rises) == 15
    assert [meter.levels[level] for level in (5, 10)] == [10, 1]
    assert [meter.rises[rise] for rise in (1, 2, 6)] == [10, 1, 1]


def test_what_is_recommended_covers_all_but_one_in_a_hundred() -> None:
    arrivals = [(100.0 + 10 * number, 1) for number in range(199)]
    meter, _ = heard([*arrivals, (5000, 1), (5000, 9)], 5002)
    assert meter.report(2).recommended_idle == 1
    meter, _ = heard([*arrivals, *((5000, level) for level in range(1, 10))], 5002)
    assert meter.report(2).recommended_idle == 7


def test_what_is_recommended_forgets_after_a_day() -> None:
    meter, _ = heard([(100, 1), (100, 9)], 102)
    assert meter.report(2).recommended_idle == 9
    for hour in range(26):
        meter.demand(3600.0 * hour + 3600, 0, 0.5)
    assert meter.report(2).recommended_idle == 0


def test_memory_does_not_grow_with_what_is_asked_for() -> None:
    meter, _ = heard(((second / 50, 1 + second % 300) for second in range(9000)), 200)
    assert len(meter.levels) == len(meter.rises) == 16 + 256 + 2
    assert len(meter._seen) <= 300


# --- in the pool --------------------------------------------------------------------------------


@pytest.mark.clock
async def test_containers_that_are_not_recycled_are_replaced_as_long_as_they_are_needed() -> None:
    async with rig(min_idle=1, max_containers=8, max_uses=1, autoscale=True) as pool:
        await asyncio.gather(*(pool.run() for _ in range(4)))
        await asyncio.sleep(1)
        assert pool.pool.demand().target_idle >= 4
        assert pool.now.idle == pool.pool.demand().target_idle
    async with rig(min_idle=1, max_containers=8, max_uses=1) as pool:
        await asyncio.gather(*(pool.run() for _ in range(4)))
        await asyncio.sleep(1)
        assert pool.now.idle == 1


@pytest.mark.clock
async def test_what_demand_raised_goes_when_it_has_not_been_needed_for_long() -> None:
    async with rig(min_idle=1, max_containers=8, autoscale=True, idle_timeout_s=60) as pool:
        hanging = [await pool.client(b"hang") for _ in range(4)]
        for container in pool.engine.containers.values():
            if container.jobs:
                container.finish()
        await asyncio.gather(*hanging)
        await asyncio.sleep(55)
        assert pool.now.idle > 3
        await asyncio.sleep(200)
        assert pool.now.idle == 1
