"""A replayed trace comes out as it would on a server: the same pool serves and refuses."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgexec.advise.clock import ClockLoop
from pgexec.advise.replay import WARM_S, Costs, replay
from pgexec.advise.traces import Request
from pool.config import PoolConfig
from pool.errors import PoolError
from pool.inside.protocol import Ending
from pool.job import Job
from pool.manager import PoolManager
from pool.observer import Rejection, Source
from pool.sizing.recycling import Outcome
from tests.unit.fake_engine import FakeEngine
from tests.unit.rig import Recorder

if TYPE_CHECKING:
    from collections.abc import Sequence

COSTS = Costs(start_s=0.317, reset_s=0.0113, remove_s=0.0531)
"""Of which no sums meet by chance: what comes first at one moment is nobody's promise."""
TICK_S = 0.1
HANGS = Job(b"hang", timeout_s=1000)


class Live:
    """A server's pool on the fake engine, to which the requests of a trace come one by one."""

    def __init__(self, config: PoolConfig) -> None:
        self.loop = asyncio.get_running_loop()
        self.engine = FakeEngine(start_s=COSTS.start_s, remove_s=COSTS.remove_s)
        self.seen = Recorder()
        launcher, clock = self.engine.launcher(), self.loop.time
        self.pool = PoolManager(launcher, config, observer=self.seen, clock=clock)

    async def run(self, requests: Sequence[Request]) -> Recorder:
        async with self.pool:
            begin = self.loop.time() + WARM_S
            async with asyncio.TaskGroup() as clients:
                for one in requests:
                    await asyncio.sleep(max(0.0, begin + one.at_s - self.loop.time()))
                    clients.create_task(self.ask(one))
        return self.seen

    async def ask(self, request: Request) -> None:
        with contextlib.suppress(PoolError):
            async with self.pool.lease(tenant=request.tenant, fresh=request.fresh) as lease:
                self.loop.call_later(request.held_s, self.end, lease.container.id, request.outcome)
                await lease.run(HANGS)

    def end(self, container_id: str, outcome: Outcome) -> None:
        container = self.engine.containers[container_id]
        if outcome is Outcome.TIMEOUT:
            container._exit(b"", Ending.TIMEOUT, -9)
        else:
            container._exit(b"")
            self.loop.call_later(COSTS.reset_s, container.finish_reset)


def live(requests: Sequence[Request], config: PoolConfig) -> Recorder:
    async def run() -> Recorder:
        return await Live(config).run(requests)

    with asyncio.Runner(loop_factory=ClockLoop) as runner:
        return runner.run(run())


def same(requests: Sequence[Request], config: PoolConfig) -> Recorder:
    """See that both serve, keep waiting and refuse as many; return what the live pool told."""
    seen, found = live(requests, config), replay(requests, config, COSTS)
    sources = Counter(seen.sources)
    assert found.requests == len(requests)
    assert found.refused == len(seen.rejections)
    assert found.cold - found.refused == sources[Source.WAITED] + sources[Source.STARTED]
    assert found.requests - found.cold == sources[Source.IDLE]
    return seen


def at_once(
    many: int, held_s: float = 1.0, *, at_s: float = 0.0, tenant: str = ""
) -> list[Request]:
    return [Request(at_s, held_s, tenant) for _ in range(many)]


def config(**changes: Any) -> PoolConfig:
    return PoolConfig(**{"min_idle": 1, "max_containers": 2, "autoscale": False} | changes)


def test_ten_at_once_of_a_tenant_that_may_have_one_run_are_nine_too_many() -> None:
    assert replay(at_once(10, tenant="a"), PoolConfig(tenant_max_running=1)).refused == 9


SLOW = [*at_once(2, 4.0), *at_once(2, 4.0, at_s=4.5)]
QUICK = [*at_once(4, 0.1, at_s=4.6), *at_once(3, 0.1, at_s=6.0)]
"""After slow ones: the last would be served in time, but there is no telling."""


@pytest.mark.parametrize(
    ("requests", "changes", "expected"),
    [
        (at_once(10, tenant="a"), {"tenant_max_running": 1}, {Rejection.TENANT_SATURATED: 9}),
        (at_once(10), {"max_waiting": 3}, {Rejection.SATURATED: 6}),
        (
            at_once(6, tenant="a") + at_once(2, at_s=0.2, tenant="b"),
            {"max_waiting": 4},
            {Rejection.SATURATED: 3},
        ),
        (at_once(8), {"lease_timeout_s": 2.5}, {Rejection.TIMEOUT: 2}),
        (
            SLOW + QUICK,
            {"lease_timeout_s": 9.0, "min_idle": 2},
            {Rejection.SATURATED: 1},
        ),
    ],
    ids=["a quota", "a full queue", "who makes way", "who waits too long", "a forecast"],
)
def test_what_a_server_refuses_is_refused_in_a_replay(
    requests: list[Request], changes: dict[str, Any], expected: dict[Rejection, int]
) -> None:
    seen = same(requests, config(**changes))
    assert Counter(seen.rejections) == expected


REQUESTS = st.builds(
    Request,
    at_s=st.integers(0, 60).map(lambda ticks: ticks * TICK_S),
    held_s=st.sampled_from((0.0237, 0.4171, 2.0493)),
    tenant=st.sampled_from("aab"),
    outcome=st.sampled_from((Outcome.OK, Outcome.OK, Outcome.OK, Outcome.TIMEOUT)),
    fresh=st.sampled_from((False, False, False, True)),
)
CONFIGS = st.builds(
    PoolConfig,
    min_idle=st.integers(0, 2),
    max_containers=st.integers(2, 4),
    autoscale=st.booleans(),
    max_waiting=st.integers(1, 8),
    tenant_max_running=st.sampled_from((0, 0, 3)),
    lease_timeout_s=st.sampled_from((0.7129, 3.1517)),
    max_uses=st.sampled_from((1, 3, 1000)),
)


@settings(max_examples=100, deadline=None)
@given(requests=st.lists(REQUESTS, min_size=1, max_size=40), config=CONFIGS)
@pytest.mark.slow
def test_any_trace_comes_out_as_on_a_server(requests: list[Request], config: PoolConfig) -> None:
    same(sorted(requests), config)
