"""A pool without containers: replays a trace in its own time, with the server's own policy.

Starts, resets and removals take the time that they are said to take; everything that is
decided (whom to serve, how many to start, which to evict, what to recycle) is decided by
`pool.planning`, `pool.tuning`, `pool.demand` and `pool.waiting`, as `pool.manager` does it.
"""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pool import planning
from pool.demand import DemandMeter
from pool.planning import View
from pool.recycling import Outcome, Reason, Use, verdict
from pool.waiting import Queue

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pgexec.advise_trace import Request
    from pool.config import PoolConfig


WARM_S = 60.0
"""How long the pool has to fill before the first request."""


@dataclass(frozen=True, slots=True)
class Costs:
    """How long the engine takes, in seconds."""

    start_s: float = 0.3
    reset_s: float = 0.0015
    remove_s: float = 0.05


@dataclass(slots=True)
class Replayed:
    """What came of a trace.

    `cold` counts those that got no container at once, the `refused` included; `waits_s` has
    the others' waits, and `ready` how many containers each found idle; `ready_s` is for how
    many seconds so many were. `container_s` is the time that containers existed, summed, from the
    engine's create to the end of their removal.
    """

    requests: int = 0
    cold: int = 0
    refused: int = 0
    starts: int = 0
    worn_out: int = 0
    container_s: float = 0.0
    span_s: float = 0.0
    waits_s: list[float] = field(default_factory=list)
    ready: list[int] = field(default_factory=list)
    ready_s: dict[int, float] = field(default_factory=lambda: defaultdict(float))

    @property
    def cold_ratio(self) -> float:
        """The share of requests that had to wait for a container."""
        return self.cold / self.requests if self.requests else 0.0

    @property
    def containers(self) -> float:
        """The mean number of containers, which is container-seconds by second."""
        return self.container_s / self.span_s if self.span_s else 0.0

    @property
    def mean_wait_s(self) -> float:
        """The mean over all that were served."""
        served = self.requests - self.refused
        return sum(self.waits_s) / served if served else 0.0


@dataclass(slots=True, eq=False)
class _Container:
    tenant: str | None = None
    uses: int = 0
    started_at: float = 0.0
    idle_since: float = 0.0


@dataclass(slots=True, eq=False)
class _Lease:
    request: Request
    tenant: str
    fresh: bool
    on_queued: None = None
    over: bool = False

    def done(self) -> bool:
        """Be the answer of the queue, too: one that is open until the lease is over."""
        return self.over


class Replay:
    """One pool and one trace."""

    def __init__(self, config: PoolConfig, costs: Costs) -> None:
        self.config = config
        self.costs = costs
        self.found = Replayed()
        self._now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._sequence = 0
        self._idle: list[_Container] = []
        self._leased: set[_Container] = set()
        self._resetting: set[_Container] = set()
        self._starting = self._destroying = 0
        self._waiting = Queue(config.max_waiting)
        self.meter = DemandMeter(config)
        self._alarm_at = math.inf

    def run(self, requests: Sequence[Request]) -> Replayed:
        """Replay all; the pool is warm when the first arrives."""
        end = WARM_S + max(one.at_s + one.held_s for one in requests) + self.config.lease_timeout_s
        self.found.requests, self.found.span_s = len(requests), end - WARM_S
        for one in requests:
            self._at(WARM_S + one.at_s, lambda one=one: self._arrive(one))  # type: ignore[misc]
        self._settle()
        last = 0.0
        while self._events and self._events[0][0] <= end:
            when, _, event = heapq.heappop(self._events)
            if when > WARM_S:
                self._pass(when - max(last, WARM_S))
            last = self._now = when
            event()
        self._pass(end - max(last, WARM_S))
        return self.found

    def _pass(self, seconds: float) -> None:
        self.found.container_s += self._existing * seconds
        self.found.ready_s[len(self._idle)] += seconds

    @property
    def _existing(self) -> int:
        resting = len(self._idle) + len(self._resetting)
        return resting + len(self._leased) + self._starting + self._destroying

    def _at(self, when: float, event: Callable[[], None]) -> None:
        self._sequence += 1
        heapq.heappush(self._events, (when, self._sequence, event))

    def _after(self, seconds: float, event: Callable[[], None]) -> None:
        self._at(self._now + seconds, event)

    # --- a lease ------------------------------------------------------------------------------

    def _arrive(self, request: Request) -> None:
        lease = _Lease(request, request.tenant, request.fresh)
        busy = len(self._leased) + len(self._resetting) + len(self._waiting)
        self.meter.arrived(self._now, busy + 1)
        self.found.ready.append(len(self._idle))
        if not self._waiting:
            index = planning.pick(self._idle, lease)
            if index is not None:
                self._serve(lease, self._idle[index])
                self._settle()
                return
        self.found.cold += 1
        if self._waiting.refuses(lease.tenant):
            self.found.refused += 1
            return
        shed = self._waiting.join(lease, lease)  # type: ignore[arg-type]
        if shed is not None:
            shed.over = True  # type: ignore[attr-defined]
            self.found.refused += 1
        self._settle()
        self._after(self.config.lease_timeout_s, lambda: self._expire(lease))

    def _serve(self, lease: _Lease, container: _Container) -> None:
        lease.over = True
        self._idle.remove(container)
        self._leased.add(container)
        container.tenant = lease.tenant
        self._after(lease.request.held_s, lambda: self._end(lease, container))

    def _expire(self, lease: _Lease) -> None:
        if not lease.over and self._waiting.remove(lease) is not None:  # type: ignore[arg-type]
            lease.over = True
            self.found.refused += 1
            self._settle()

    def _end(self, lease: _Lease, container: _Container) -> None:
        container.uses += 1
        self._leased.remove(container)
        reason = verdict(self._use(lease, container), self.config)
        self.found.worn_out += reason is Reason.MAX_USES
        recycled = reason is None
        self.meter.ended(lease.request.held_s, self.costs.start_s, recycled=recycled)
        if recycled:
            self._resetting.add(container)
            self._after(self.costs.reset_s, lambda: self._put_back(container))
        else:
            self._destroy()
            self._settle()

    def _use(self, lease: _Lease, container: _Container) -> Use:
        return Use(
            outcome=Outcome(lease.request.outcome),
            uses=container.uses,
            age_s=self._now - container.started_at,
            fresh=lease.fresh,
        )

    def _put_back(self, container: _Container) -> None:
        self._resetting.discard(container)
        container.idle_since = self._now
        self._idle.append(container)
        self._settle()

    # --- the fleet ----------------------------------------------------------------------------

    def _start(self) -> None:
        self._starting += 1
        self.found.starts += 1

        def ready() -> None:
            self._starting -= 1
            self._put_back(_Container(started_at=self._now))

        self._after(self.costs.start_s, ready)

    def _destroy(self) -> None:
        self._destroying += 1

        def gone() -> None:
            self._destroying -= 1
            self._settle()

        self._after(self.costs.remove_s, gone)

    def _settle(self) -> None:
        plan = planning.plan(self._view(), self.config, self._now)
        for container, _ in plan.evict:
            self._idle.remove(container)
            self._destroy()
        for lease, container in plan.serve:
            self._waiting.serve(lease)  # type: ignore[arg-type]
            self.found.waits_s.append(self._now - WARM_S - lease.request.at_s)
            self._serve(lease, container)
        for _ in range(plan.start):
            self._start()
        if plan.wake_at < self._alarm_at:
            self._alarm_at = plan.wake_at
            self._at(plan.wake_at, lambda when=plan.wake_at: self._ring(when))  # type: ignore[misc]

    def _ring(self, when: float) -> None:
        if when == self._alarm_at:
            self._alarm_at = math.inf
            self._settle()

    def _view(self) -> View[_Container, _Lease]:
        in_use = len(self._leased) + len(self._waiting)
        return View(
            idle=self._idle,
            waiting=self._waiting,  # type: ignore[arg-type]
            resetting=[container.tenant for container in self._resetting],
            starting=self._starting,
            leased=len(self._leased),
            holders=(container.tenant for container in self._leased),
            destroying=self._destroying,
            demand=self.meter.demand(self._now, in_use, self.costs.start_s),
        )


def replay(requests: Sequence[Request], config: PoolConfig, costs: Costs | None = None) -> Replayed:
    """Replay a trace, sorted by arrival, on a pool with these settings."""
    return Replay(config, costs or Costs()).run(requests)
