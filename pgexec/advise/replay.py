"""Replay a trace with the server's own pool: its `PoolManager`, on virtual time.

The same code as in the server decides all: which lease to serve or refuse, how many containers to
start, which to evict or recycle. Only the containers are simulated: a start or a reset takes the
time of `Costs`, and a run takes the time from the trace.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pgexec.advise.clock import ClockLoop
from pool.container import Container, State
from pool.errors import PoolError
from pool.job import ResetReport
from pool.manager import PoolManager
from pool.observer import Observer, Source
from pool.sizing.recycling import Outcome, Reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgexec.advise.traces import Request
    from pool.config import PoolConfig
    from pool.observer import Rejection

WARM_S = 60.0
"""The pool has so many seconds to fill before the first request."""


@dataclass(frozen=True, slots=True)
class Costs:
    """The times that the engine and the runner take, in seconds."""

    start_s: float = 0.3
    reset_s: float = 0.0015
    remove_s: float = 0.05


@dataclass(slots=True)
class Replayed:
    """The result of a replay.

    `cold` counts the requests that got no container at once, with the `refused` ones. `waits_s`
    has the wait of each other request. `ready` counts requests by the number of containers that
    they found idle; `ready_s` has the seconds with this number of idle containers. `container_s`
    sums the time of all containers, from the engine's create to the end of their removal.
    `levels` and `rises` are the fields of `pool.sizing.demand.DemandReport`.
    """

    requests: int = 0
    cold: int = 0
    refused: int = 0
    starts: int = 0
    worn_out: int = 0
    container_s: float = 0.0
    span_s: float = 0.0
    levels: Sequence[int] = ()
    rises: Sequence[int] = ()
    waits_s: list[float] = field(default_factory=list)
    ready: list[int] = field(default_factory=list)
    ready_s: dict[int, float] = field(default_factory=lambda: defaultdict(float))

    @property
    def cold_ratio(self) -> float:
        """The share of requests that had to wait for a container."""
        return self.cold / self.requests if self.requests else 0.0

    @property
    def containers(self) -> float:
        """The mean number of containers: container-seconds per second."""
        return self.container_s / self.span_s if self.span_s else 0.0

    @property
    def mean_wait_s(self) -> float:
        """The mean wait of all served requests, in seconds."""
        served = self.requests - self.refused
        return sum(self.waits_s) / served if served else 0.0


class _Container(Container):
    """A container without engine, stream and runner; it does not call the base's constructor."""

    def __init__(self, number: int, costs: Costs) -> None:
        self.id = f"replayed {number}"
        self.state = State.STARTING
        self.tenant = None
        self.uses = 0
        self.started_at = self.idle_since = self.start_s = 0.0
        self.on_lost = None
        self._costs = costs

    @property
    def lost(self) -> bool:
        return False

    async def reset(self, *, timeout_s: float) -> ResetReport:  # noqa: ARG002  # see `Costs`
        await asyncio.sleep(self._costs.reset_s)
        return ResetReport(clean=True, detail="")

    async def destroy(self) -> None:
        await asyncio.sleep(self._costs.remove_s)


class _Replay(Observer):
    """The replay of one trace on one pool."""

    def __init__(self, loop: ClockLoop, config: PoolConfig, costs: Costs) -> None:
        self._loop = loop
        self._costs = costs
        self._found = Replayed()
        self._pool = PoolManager(self._launch, config, observer=self, clock=loop.time)

    async def run(self, requests: Sequence[Request]) -> Replayed:
        """Replay all requests; the pool is warm when the first one arrives."""
        found, begin = self._found, self._loop.time() + WARM_S
        found.requests = len(requests)
        found.span_s = max(one.at_s + one.held_s for one in requests)
        found.span_s += self._pool.config.lease_timeout_s
        async with self._pool:
            await self._until(begin)
            self._loop.on_pass = self._pass
            async with asyncio.TaskGroup() as group:
                for request in requests:
                    await self._until(begin + request.at_s)
                    group.create_task(self._ask(request))
                await self._until(begin + found.span_s)
            self._loop.on_pass = None
            demand = self._pool.demand()
            found.levels, found.rises = demand.levels, demand.rises
        return found

    async def _ask(self, request: Request) -> None:
        """Play one request: wait for a container, hold it, and end as the trace says."""
        self._found.ready.append(self._pool.snapshot().idle)
        with contextlib.suppress(PoolError):  # `rejected` has counted it
            async with self._pool.lease(tenant=request.tenant, fresh=request.fresh) as lease:
                await asyncio.sleep(request.held_s)
                if request.outcome is not Outcome.UNUSED:
                    lease.container.uses += 1
                    lease.outcome = request.outcome

    async def _until(self, when: float) -> None:
        if (left_s := when - self._loop.time()) > 0:
            await asyncio.sleep(left_s)

    async def _launch(self, number: int) -> Container:
        self._found.starts += 1
        await asyncio.sleep(self._costs.start_s)
        return _Container(number, self._costs)

    def _pass(self, seconds: float) -> None:
        now = self._pool.snapshot()
        self._found.container_s += now.total * seconds
        self._found.ready_s[now.idle] += seconds

    # --- the pool's observer --------------------------------------------------------------------

    def leased(self, source: Source, waited_s: float) -> None:
        if source is not Source.IDLE:
            self._found.cold += 1
            self._found.waits_s.append(waited_s)

    def rejected(self, reason: Rejection) -> None:  # noqa: ARG002  # any
        self._found.cold += 1
        self._found.refused += 1

    def destroyed(self, reason: Reason, uses: int) -> None:  # noqa: ARG002  # any number
        self._found.worn_out += reason is Reason.MAX_USES


def replay(requests: Sequence[Request], config: PoolConfig, costs: Costs | None = None) -> Replayed:
    """Replay a trace, sorted by arrival, on a pool with these settings."""
    loop = ClockLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(_Replay(loop, config, costs or Costs()).run(requests))
