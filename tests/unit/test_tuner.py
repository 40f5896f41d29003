"""The tuner on replayed traces: what it gains over fixed sizes, by no clock but the replay's."""

from __future__ import annotations

import pytest

from bench.tuner import compare
from bench.tuner_chance import worth
from bench.tuner_plot import draw
from bench.tuner_points import frontier
from bench.tuner_traces import BURSTY, trace
from pgexec.advise.replay import replay
from pgexec.advise.traces import Request
from pool.config import PoolConfig

pytestmark = pytest.mark.slow  # each replays traces of hours

SEEDS = {"bursty": (2, 3), "herd": (2, 3), "azure": (2,)}
CONFIG = PoolConfig(min_idle=2, max_containers=16, idle_timeout_s=300)


@pytest.mark.parametrize("shape", BURSTY)
def test_the_tuner_beats_every_fixed_size_of_equal_cost_on_bursty_traces(shape: str) -> None:
    traces = [trace(shape, seed) for seed in SEEDS[shape]]
    compared = compare(shape, traces, floors=(1, 4), sizes=range(5, 14))
    for point in compared.tuner:
        assert point.cold_ratio < compared.against(point), point


def test_knowing_when_is_worth_much_where_bursts_have_a_pattern() -> None:
    config = PoolConfig(min_idle=4, max_containers=16)
    for shape in ("herd", "bursty"):
        found = worth([trace(shape, 2)], config)
        assert found.tuned < 0.6 * found.constant < 0.6 * found.untimed, shape


def test_what_nothing_foretells_leaves_nothing_to_know() -> None:
    """See bench/tuner_chance.py: there a number that varies can only lose against a fixed one."""
    traces = [trace("chance", seed) for seed in range(1, 6)]
    found = worth(traces, PoolConfig(min_idle=4, max_containers=16))
    assert found.tuned == pytest.approx(found.untimed, rel=0.1)
    assert found.constant < 0.9 * found.untimed


def test_a_replay_is_the_same_every_time() -> None:
    requests = trace("herd", 7)
    assert requests == trace("herd", 7)
    assert replay(requests, CONFIG) == replay(requests, CONFIG)


def test_a_replay_counts_waits_and_container_seconds() -> None:
    """Two at once on one container: the second waits for the first, and for its reset."""
    config = PoolConfig(min_idle=1, max_containers=1, autoscale=False)
    found = replay([Request(0, 2.0), Request(0, 2.0)], config)
    assert (found.requests, found.cold, found.refused) == (2, 1, 0)
    assert found.waits_s == [pytest.approx(2.0015)]
    assert found.container_s == pytest.approx(found.span_s) == 12.0


def test_the_frontier_mixes_the_best_two_sizes() -> None:
    compared = compare("few", [[Request(0, 2.0), Request(0, 2.0)]], floors=(1,), sizes=(1, 2))
    best = {one.containers: one.cold_ratio for one in compared.fixed}
    assert best == {1.0: 0.5, 2.0: 0.0}
    assert frontier(compared.fixed, 1.5) == 0.25
    assert "<svg" in draw([compared])
