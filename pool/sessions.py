"""The sessions of one pool: how many there may be, and whose gives way to whom."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING

from pool.errors import PoolClosed, SessionEnd, SessionsSaturated
from pool.session import PooledSession
from pool.tenant import owner

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from pool.job import Job
    from pool.lease import Lease
    from pool.manager import PoolManager


NEVER_S = 3600.0
"""What a client is told to wait where no session will ever be free."""


class Sessions:
    """Opens sessions in a pool's containers: at most `sessions_max` of its configuration.

    A tenant at its own limit of runs gives up its session that is idle for the longest for a new
    one, and for a run if sessions have all its places: no end of a run would make one free. If
    there are as many sessions as there may be, a tenant with at least two more than the one
    that asks gives up such a session. Otherwise nobody's session ends for another's.
    """

    def __init__(self, pool: PoolManager) -> None:
        self._pool = pool
        self._sessions: set[PooledSession] = set()
        self._opening: Counter[str] = Counter()
        self._closed = False
        pool.quota.make_way = self._make_way

    def __len__(self) -> int:
        return len(self._sessions) + self._opening.total()

    @asynccontextmanager
    async def open(self, lease: Lease, job: Job, *, idle_s: float) -> AsyncIterator[PooledSession]:
        """Enter the lease and yield an open session; when the block ends, the session does.

        Raises `SessionsSaturated`, and the errors of entering a lease and of `PooledSession.open`.
        """
        self._make_room(lease.tenant)
        closed = asyncio.Event()
        async with AsyncExitStack() as stack:
            stack.callback(closed.set)  # the last one
            self._opening[lease.tenant] += 1
            try:
                await self._keep_quota(lease.tenant)
                await stack.enter_async_context(lease)
            finally:
                self._opening[lease.tenant] -= 1
            session = PooledSession(
                self._pool.keep(lease),
                lease.tenant,
                closed,
                idle_s=idle_s,
                max_age_s=self._pool.config.session_max_age_s,
                clock=self._pool.clock,
            )
            self._sessions.add(session)
            if self._closed:
                session.end(SessionEnd.DRAINED)
            try:
                await session.open(job)
                self._pool.settle_soon()
                yield session
            finally:
                session.end(SessionEnd.LOST)  # counts only if there is no other reason
                self._sessions.discard(session)

    def drain(self) -> None:
        """End all sessions, each after its cell, and open none any more."""
        self._closed = True
        for session in self._sessions:
            session.end(SessionEnd.DRAINED)

    def _make_room(self, tenant: str) -> None:
        if self._closed:
            raise PoolClosed("the pool opens no sessions any more")
        most = self._pool.config.sessions_max
        if most == 0:  # another server may have some: so this is no other error
            message = "this server has no sessions: PGEXEC_SESSIONS_MAX is 0"
            raise SessionsSaturated(message, retry_after_s=NEVER_S)
        living = [one for one in self._sessions if one.reason is None]
        if len(living) + self._opening.total() < most:
            return
        held = Counter(owner(one.tenant) for one in living)
        held.update(owner(name) for name in self._opening.elements())
        greediest = max(held, key=held.__getitem__, default="")
        if held[greediest] > held[owner(tenant)] + 1:
            victim = _longest_idle(one for one in living if owner(one.tenant) == greediest)
            if victim is not None:
                victim.end(SessionEnd.QUOTA)
                return
        wait_s = min((one.expires_in_s for one in living), default=1.0)
        there = "there is 1 session" if most == 1 else f"there are {most} sessions"
        message = f"{there}, as many as PGEXEC_SESSIONS_MAX allows"
        raise SessionsSaturated(message, retry_after_s=max(1.0, wait_s))

    async def _keep_quota(self, tenant: str) -> None:
        """End an idle session of a tenant that may have no more runs: the new one replaces it."""
        if self._pool.quota.is_full(tenant):
            own = (one for one in self._sessions if one.tenant == tenant)
            await self._replace(_longest_idle(one for one in own if one.reason is None))

    async def _make_way(self, tenant: str) -> None:
        """End an idle session of a tenant for a run, but none beside one that is ending."""
        own = [one for one in self._sessions if one.tenant == tenant and not one.busy]
        ending = (one for one in own if one.reason is not None)
        await self._replace(next(ending, None) or _longest_idle(own))

    async def _replace(self, victim: PooledSession | None) -> None:
        if victim is not None:
            victim.end(SessionEnd.QUOTA)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pool.config.lease_timeout_s):
                    await victim.closed.wait()


def _longest_idle(sessions: Iterable[PooledSession]) -> PooledSession | None:
    idle = [one for one in sessions if not one.busy]
    return min(idle, key=lambda one: one.used_at, default=None)
