"""The pool of warm containers: leases them, keeps enough of them, and loses none.

Decide synchronously, act asynchronously: every event (a lease, its end, a start, a removal,
a timer) changes the books between two awaits and calls `_settle`, which asks `planning` for
a plan and carries it out. A lease that waits holds a future. Slow work (to start, reset or
remove a container) is a task of the fleet, and ends in another event.

No lock is needed: all of this runs on one loop, and no `await` stands between reading the
books and changing them.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from typing import TYPE_CHECKING, Self

from pool.alarm import Alarm, Soon
from pool.container import State
from pool.errors import (
    ContainerLost,
    EngineUnavailable,
    LeaseTimeout,
    PoolClosed,
    PoolSaturated,
    TenantSaturated,
)
from pool.fleet import Fleet
from pool.forecast import Forecast
from pool.lease import Launcher, Lease
from pool.observer import Observer, Rejection, Source
from pool.readiness import Readiness
from pool.sizing import planning
from pool.sizing.demand import DemandMeter
from pool.sizing.recycling import Outcome, Reason, verdict
from pool.sizing.target import target
from pool.waiting import Queue, Quota

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from pool.config import PoolConfig
    from pool.container import Container
    from pool.job import ResetReport
    from pool.lease import OnQueued
    from pool.observer import Snapshot
    from pool.sizing.demand import DemandReport
    from pool.sizing.target import Demand

NO_LEASES = "the pool takes no new leases"


class PoolManager:
    """Leases warm containers that `launcher` starts; use as `async with`, or start and close.

    The pool measures and decides by `clock`, in seconds; only its timers are the loop's. The
    loop's own clock is too coarse for durations: uvloop's ticks in milliseconds.
    """

    def __init__(
        self,
        launcher: Launcher,
        config: PoolConfig,
        *,
        observer: Observer | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.config = config
        self._observer = observer or Observer()
        self.clock = self._now = clock
        self._fleet = Fleet(launcher, config, self._observer, self._settle, clock)
        self._waiting = Queue(config.max_waiting, config.shares, self._fleet.leased)
        self.quota = Quota(config.tenant_max_running)
        self._meter = DemandMeter(config)
        self._forecast = Forecast(self._fleet, self._waiting, self._meter, config.max_containers)
        self._readiness = Readiness(self._fleet, self._forecast, config)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._alarm = Alarm(self._settle, clock)
        self._soon = Soon(self._settle)
        self._unused = asyncio.Event()  # no lease holds anything; kept only while draining

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def start(self) -> None:
        """Begin to fill the pool; `Snapshot.ready` tells when it is warm.

        The pool works on the running loop; its callers must use the same loop.
        """
        if self._loop is not None or self._fleet.closing:
            raise RuntimeError("a pool starts once")
        self._loop = asyncio.get_running_loop()
        self._settle()

    def lease(
        self,
        *,
        tenant: str = "",
        fresh: bool = False,
        timeout_s: float | None = None,
        on_queued: OnQueued | None = None,
    ) -> Lease:
        """Return a lease; enter it with `async with pool.lease() as lease`.

        A container that has run a tenant's code is leased to that tenant only. A `fresh` lease
        gets an unused container, which is destroyed afterwards. `timeout_s` bounds the wait. If
        there is a wait, `on_queued` is called with the place in the queue and each change of it.

        Entering raises `PoolClosed`; `TenantSaturated` at once if the tenant has as many runs as
        it may have; `PoolSaturated` at once if the queue is full or too slow for `timeout_s`, or
        later if a tenant with fewer waiters needs the place; `LeaseTimeout` after `timeout_s`, or
        `EngineUnavailable` then, if there is no container because none can be started.
        """
        return Lease(
            tenant=tenant,
            fresh=fresh,
            timeout_s=self.config.lease_timeout_s if timeout_s is None else timeout_s,
            max_uses=self.config.max_uses,
            enter=self._enter,
            leave=self._leave,
            clock=self._now,
            on_queued=on_queued,
        )

    def keep(self, lease: Lease) -> Container:
        """Make a lease a session. Once it is open, call `settle_soon`: a start would delay it."""
        container = self._fleet.keep(lease)
        self.quota.keep(lease.tenant)
        self._soon.take_back(lease)
        return container

    def settle_soon(self) -> None:
        """Settle in a moment: planning delays no job, and a short run costs one plan, not two."""
        self._soon.ask()

    def snapshot(self) -> Snapshot:
        """Count the containers by state, and tell if a run would be served now."""
        closed = self._loop is None or self._fleet.closing
        unready = NO_LEASES if closed else self._readiness.unready(self._now())
        full = None if unready else self._readiness.full(self._now())
        return self._fleet.snapshot(len(self._waiting), unready or full, full=bool(full))

    def demand(self) -> DemandReport:
        """Report the demand, and the number of idle containers that it calls for."""
        in_use = self._fleet.running + len(self._waiting)
        return self._meter.report(target(self._demand(self._now()), in_use, self.config))

    def retry(self) -> None:
        """Forget the back-off: the engine is known to answer again."""
        self._fleet.retry()
        self._settle()

    def pause(self, reason: str) -> None:
        """Start no containers before `resume`; errors give `reason` meanwhile."""
        self._readiness.paused = reason
        self._settle()

    def resume(self) -> None:
        """Start containers again, at once."""
        self._readiness.paused = None
        self.retry()

    def doubt(self, reason: str | None) -> None:
        """Make the pool unready for `reason`, even with idle containers, until `doubt(None)`."""
        self._readiness.doubt = reason

    def lose(self, container_ids: Collection[str]) -> None:
        """Destroy the containers with these ids: nothing can run in them any more."""
        fleet = self._fleet
        for container in (*fleet.idle, *fleet.leased, *fleet.resetting):
            if container.id in container_ids:
                fleet.destroy(container, Reason.LOST)
        self._settle()

    def renew(self) -> None:
        """Use no container again that has begun to start before now; runs in them go on."""
        self._fleet.renew()
        self._settle()

    async def close(self) -> None:
        """Destroy all containers now, the leased ones, too."""
        await self.drain(0)

    async def drain(self, timeout_s: float | None = None) -> None:
        """Refuse new leases, let the present ones end, destroy all containers, and close.

        After `timeout_s` seconds (by default `drain_timeout_s`) it destroys the leased containers,
        too. Another call may cut this one short at any time. If the engine does not remove
        containers, it takes up to twice `remove_timeout_s` longer.
        """
        self._refuse()
        await self._until_unused(self.config.drain_timeout_s if timeout_s is None else timeout_s)
        self._fleet.revoke()
        await self._until_unused(self.config.remove_timeout_s)
        await self._fleet.finish(self.config.remove_timeout_s)

    # --- entering a lease ---------------------------------------------------------------------

    async def _enter(self, lease: Lease) -> tuple[Container, Source]:
        fleet, quota = self._fleet, self.quota
        if quota.make_way is not None and quota.has_only_sessions(lease.tenant):
            await quota.make_way(lease.tenant)
        if self._loop is None or fleet.closing:
            self._observer.rejected(Rejection.CLOSED)
            raise PoolClosed(NO_LEASES)
        if not quota.take(lease.tenant):
            self._observer.rejected(Rejection.TENANT_SATURATED)
            wait_s = self._forecast.tenant_retry_after(quota.limit)
            raise TenantSaturated(quota.refusal(lease.tenant), retry_after_s=wait_s)
        busy = fleet.running + len(fleet.resetting) + len(self._waiting)
        self._meter.arrived(self._now(), busy + 1)
        # Nothing is awaited between `pick` and `hold`: another task could lease the same container.
        # Waiting leases come first: else new ones would overtake them for as long as any come.
        if not self._waiting and self._waiting.may_lease(lease.tenant):
            index = planning.pick(fleet.idle, lease, keep=self.config.users_share > 0)
            if index is not None:
                container = fleet.idle[index]
                fleet.hold(container, lease.tenant)
                self._soon.ask(lease)
                self._observer.leased(Source.IDLE, 0.0)
                return container, Source.IDLE
        asked_at = self._now()
        try:
            container = await self._wait(lease, self._loop)
        except BaseException:
            # `_leave` is not called for a lease that was never entered. Without this, each timeout
            # and each cancellation would cost the tenant one of its runs for ever.
            quota.give_back(lease.tenant)
            raise
        source = Source.WAITED if container.uses else Source.STARTED
        self._observer.leased(source, self._now() - asked_at)
        return container, source

    async def _wait(self, lease: Lease, loop: asyncio.AbstractEventLoop) -> Container:
        """Join the queue, and return the container that the lease gets."""
        began = self._now()
        if (reason := self._forecast.refusal(lease.tenant, lease.timeout_s, began)) is not None:
            raise self._saturated(reason)
        self._forecast.note_waiter(began)
        future: asyncio.Future[Container] = loop.create_future()
        shed = self._waiting.join(lease, future)
        if shed is not None and not shed.done():
            shed.set_exception(self._saturated(self._waiting.refusal))
        self._settle()
        deadline = loop.call_later(lease.timeout_s, self._expire, lease)
        try:
            container = await future
        except asyncio.CancelledError:
            self._give_up(lease, future)
            raise
        finally:
            deadline.cancel()
            lease.queued_s = self._now() - began
        # Between the grant and this line a drain or `lose` may have destroyed the container.
        if container.state is not State.LEASED:
            if self._fleet.closing:
                raise PoolClosed("the pool was closed")
            raise ContainerLost("the container was lost")
        return container

    def _give_up(self, lease: Lease, future: asyncio.Future[Container]) -> None:
        """Take a cancelled lease out of the queue; put back a container that it already got.

        A grant and a cancellation may come in the same turn of the loop. The lease is then never
        entered: without this, its container would stay leased for ever.
        """
        self._waiting.remove(lease)
        if future.done() and not future.cancelled() and future.exception() is None:
            container = future.result()
            if container.state is State.LEASED:
                self._fleet.put_back(container)
        self._settle()

    def _expire(self, lease: Lease) -> None:
        reason = self._readiness.start_failure()
        retry_after_s = self._forecast.retry_after()
        future = self._waiting.remove(lease)
        # It was granted, shed or cancelled in the turn of the loop in which the timer fired.
        if future is None or future.done():
            return
        message = self._waiting.late(lease)
        if reason is not None:
            message += f"; {reason}"
        if reason is not None and self._fleet.usable == 0:
            self._observer.rejected(Rejection.UNAVAILABLE)
            future.set_exception(EngineUnavailable(message))
        else:
            self._observer.rejected(Rejection.TIMEOUT)
            future.set_exception(LeaseTimeout(message, retry_after_s=retry_after_s))
        self._settle()

    # --- leaving a lease ----------------------------------------------------------------------

    def _leave(self, lease: Lease) -> None:
        self.quota.give_back(lease.tenant, session=lease.outcome is Outcome.SESSION)
        container = lease.container
        if container.state not in (State.LEASED, State.SESSION):
            return  # destroyed meanwhile by a drain or by `lose`: it is off the books already
        reason = verdict(lease.use(container, self._now()), self.config)
        if lease.outcome is not Outcome.SESSION:  # no run waits for the end of one
            held_s = self._now() - lease.entered_at
            self._meter.ended(held_s, self._fleet.start_s, recycled=reason is None)
        if reason is not None:
            self._fleet.destroy(container, reason)
        elif lease.outcome is Outcome.UNUSED:
            self._fleet.put_back(container)
        elif self._fleet.closing:
            self._fleet.destroy(container, Reason.DRAINED)
        else:
            self._reset(lease, container)
            return  # nothing is free for a plan before the report comes
        self._settle()

    def _reset(self, lease: Lease, container: Container) -> None:
        began = self._now()

        def judge(report: ResetReport) -> None:
            self._observer.reset(self._now() - began, report)
            reason = verdict(lease.use(container, self._now()), self.config, report)
            if container.outdated:
                reason = reason or Reason.EVICTED
            if reason is None:
                self._fleet.put_back(container)
                self._observer.recycled()
            else:
                self._fleet.destroy(container, reason)

        self._fleet.reset(container, judge)

    # --- the plan, and carrying it out --------------------------------------------------------

    def _settle(self, alarm_at: float = -math.inf) -> None:
        """Plan, and carry out the plan.

        Call this only when the books are right: a container on two lists would count twice, and
        the slot of one on no list would be given away. `alarm_at` is the time of an alarm's ring.
        """
        fleet, loop = self._fleet, self._loop
        if fleet.closing and not fleet.leased:
            self._unused.set()
        if fleet.closing or loop is None:
            return
        self._soon.cancel()
        # Without `alarm_at`, an alarm that rings a moment early would change nothing, and not be
        # set again.
        now = max(alarm_at, self._now())
        self._readiness.note(now)
        plan = planning.plan(self._view(now), self.config, now)
        for container, reason in plan.evict:
            fleet.destroy(container, reason)
        for lease, container in plan.serve:
            # `set_result` runs no waiter: the container is held before any other task can look.
            fleet.hold(container, lease.tenant)
            self._waiting.serve(lease).set_result(container)
        for _ in range(plan.start):
            fleet.start()
        self._alarm.set(min(plan.wake_at, self._waiting.tell(now)), loop)

    def _view(self, now: float) -> planning.View[Container, Lease]:
        demand = self._demand(now)
        return self._fleet.view(self._waiting, demand, paused=self._readiness.paused is not None)

    def _demand(self, now: float) -> Demand:
        fleet = self._fleet
        in_use = fleet.running + len(self._waiting)
        return self._meter.demand(now, in_use, fleet.start_s)

    # --- closing ------------------------------------------------------------------------------

    def _refuse(self) -> None:
        self._alarm.cancel()
        self._soon.cancel()
        self._fleet.refuse()
        for future in self._waiting.clear():
            if not future.done():
                self._observer.rejected(Rejection.CLOSED)
                future.set_exception(PoolClosed("the pool is being closed"))
        self._settle()

    async def _until_unused(self, timeout_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._unused.wait()

    def _saturated(self, reason: str) -> PoolSaturated:
        self._observer.rejected(Rejection.SATURATED)
        return PoolSaturated(reason, retry_after_s=self._forecast.retry_after())
