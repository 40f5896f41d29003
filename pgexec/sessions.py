"""The service behind the routes of sessions: it opens them in the pools, and finds them by id."""

from __future__ import annotations

import asyncio
import secrets
import time
from base64 import urlsafe_b64encode
from collections import Counter, OrderedDict
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import TYPE_CHECKING, Protocol

from pool.errors import LayerMissing, PoolError, SessionEnd, SessionEnded, SessionUnknown
from pool.sessions import Sessions
from pool.tenant import owner

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pgexec.contract import RunRequest
    from pgexec.service import PoolService, Progress, Timings
    from pool.job import Result
    from pool.manager import PoolManager
    from pool.session import PooledSession

REMEMBERED = 10_000
"""So many sessions that have ended are remembered, to say why."""
_RANDOM_CHARS, _RANDOM_BYTES, _SEAL_BYTES = 32, 24, 6
_FORGOTTEN = "the session has ended: its server was started again, or it ended long ago"


@dataclass(frozen=True, slots=True)
class HeldSession:
    """A session, and what its answers say about it. `began` is in seconds since 1970."""

    id: str
    language: str
    session: PooledSession
    began: float = field(default_factory=time.time)


class SessionObserver(Protocol):
    """Hears of sessions. Must not raise or block."""

    def opened(self, language: str) -> None:
        """Hear that a session is open."""
        ...

    def ended(self, language: str, reason: SessionEnd, runs: int) -> None:
        """Hear that a session has ended, after so many cells."""
        ...

    def restarted(self, language: str) -> None:
        """Hear that a cell ran in a new interpreter, because the last one had ended."""
        ...


class SessionService:
    """Opens sessions in the pools of `service`, and runs cells in them.

    `server_name` begins the ids, with a dot behind it, if it is not empty: a balancer may read it.
    Without one, `address` tells this server from others.

    An id ends with a seal, a digest of the server's name, the tenant and the rest. So the server
    that follows this one under its name knows, with nothing on disk, that there was such a session
    of this tenant. The seal is no secret: a forged one only has an answer say "ended".
    """

    def __init__(
        self,
        service: PoolService,
        pools: Mapping[str, PoolManager],
        *,
        observer: SessionObserver,
        server_name: str = "",
        address: str = "",
    ) -> None:
        self._service = service
        self._pools = pools
        self._sessions = {language: Sessions(pool) for language, pool in pools.items()}
        self._prefix = f"{server_name}." if server_name else ""
        self._origin = server_name or address
        self._observer = observer
        self._entries: dict[str, HeldSession] = {}
        self._ended: OrderedDict[str, tuple[str, SessionEnded]] = OrderedDict()
        self._ends: Counter[SessionEnd] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(
        self, request: RunRequest, idle_s: float, tenant: str, timings: Timings
    ) -> HeldSession:
        """Open a session with the layer, files and variables of a request.

        Raises the errors of `Sessions.open`, and of installing dependencies.
        """
        opened: asyncio.Future[HeldSession] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(
            self._live(request, idle_s, tenant, timings, opened), name="a session"
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            return await opened
        except asyncio.CancelledError:
            task.cancel()  # nobody knows its id
            raise

    async def run(
        self,
        entry: HeldSession,
        request: RunRequest,
        timeout_s: float,
        timings: Timings,
        progress: Progress | None = None,
    ) -> Result:
        """Run a cell. A cancellation interrupts it. Raises the errors of `PooledSession.run`."""
        session = entry.session
        session.check()
        timings.container_id = session.container.id
        timings.source = "session"
        job = self._service.job(request, timeout_s)
        began = timings.lease_at = time.perf_counter()
        try:
            if progress is None:
                result = await session.run(job)
            else:
                progress.leased()
                result = await session.run(job, progress.output)
        finally:
            timings.lease_s = time.perf_counter() - began
        timings.run_s = result.duration_s
        if result.shown is not None and result.shown.restarted:
            self._observer.restarted(entry.language)
        return result

    def find(self, name: str, tenant: str, user: str | None = None) -> HeldSession:
        """Return the session with the id `name`, if it is the tenant's, or one of its users'.

        With `user` it must be that user's. Raises `SessionEnded`, also for a session of an earlier
        server of this name, and `SessionUnknown`.
        """
        wanted = tenant if user is None else f"{tenant}/{user}"
        whose: Callable[[str], str] = owner if user is None else str
        if (entry := self._entries.get(name)) is not None:
            if whose(entry.session.tenant) == wanted:
                if entry.session.reason is not None:
                    raise entry.session.ended(entry.session.reason)
                return entry
        elif name in self._ended:
            held_by, error = self._ended[name]
            if whose(held_by) == wanted:
                raise SessionEnded(str(error), error.reason)
        elif self._was_made_for(tenant, name):
            raise SessionEnded(_FORGOTTEN, SessionEnd.LOST)
        raise SessionUnknown("there is no such session")

    def of(self, tenant: str) -> Sequence[HeldSession]:
        """Return the living sessions of a tenant and of its users, the oldest first."""
        entries = self._entries.values()
        own = (one for one in entries if owner(one.session.tenant) == tenant)
        return [one for one in own if one.session.reason is None]

    def counts(self) -> Mapping[str, Mapping[str, int]]:
        """Return how many sessions are idle and busy, by language."""
        found = {language: {"idle": 0, "busy": 0} for language in self._pools}
        for entry in self._entries.values():
            found[entry.language]["busy" if entry.session.busy else "idle"] += 1
        return found

    def figures(self) -> Mapping[str, object]:
        """Return how many sessions are idle and busy, and how many have ended, by reason."""
        busy = sum(entry.session.busy for entry in self._entries.values())
        return {"idle": len(self._entries) - busy, "busy": busy, "ended": self._ends}

    def drain(self) -> None:
        """Let all sessions end, each after its cell, and open none any more."""
        for sessions in self._sessions.values():
            sessions.drain()

    async def close(self) -> None:
        """Wait until no session is left; the pools must have been drained."""
        if self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)

    def _new_id(self, tenant: str) -> str:
        rest = secrets.token_urlsafe(_RANDOM_BYTES)
        return f"{self._prefix}{rest}{self._seal(rest, tenant)}"

    def _was_made_for(self, tenant: str, name: str) -> bool:
        """Return True if a server of this name made an id, for this tenant or one of its users."""
        rest = name[len(self._prefix) :][:_RANDOM_CHARS]
        return name == f"{self._prefix}{rest}{self._seal(rest, tenant)}"

    def _seal(self, rest: str, tenant: str) -> str:
        text = "\0".join((self._origin, owner(tenant), rest)).encode("utf-8", "replace")
        return urlsafe_b64encode(blake2b(text, digest_size=_SEAL_BYTES).digest()).decode()

    async def _live(
        self,
        request: RunRequest,
        idle_s: float,
        tenant: str,
        timings: Timings,
        opened: asyncio.Future[HeldSession],
    ) -> None:
        """Hold one session with its layer and its container from its begin to its end."""
        try:
            # If something else has removed the layer from the volume, the next try installs it.
            if not await self._hold(request, idle_s, tenant, timings, opened, last_try=False):
                await self._hold(request, idle_s, tenant, timings, opened, last_try=True)
        except BaseException as error:
            if opened.done():
                raise
            opened.set_exception(error if isinstance(error, Exception) else PoolError("cancelled"))
            opened.exception()  # else asyncio logs an error if the client has gone
            if not isinstance(error, Exception):
                raise

    async def _hold(
        self,
        request: RunRequest,
        idle_s: float,
        tenant: str,
        timings: Timings,
        opened: asyncio.Future[HeldSession],
        *,
        last_try: bool,
    ) -> bool:
        """Hold a session. Returns False if there was none, because its layer was damaged."""
        async with AsyncExitStack() as stack:
            job = self._service.job(request, 1.0)
            if request.dependencies:
                layer = await stack.enter_async_context(
                    self._service.layer(request, tenant, timings, None)
                )
                job = replace(job, layer=layer.name)
            lease = self._pools[request.language].lease(tenant=tenant)
            sessions = self._sessions[request.language]
            try:
                session = await stack.enter_async_context(sessions.open(lease, job, idle_s=idle_s))
            except LayerMissing:
                if last_try or not await self._service.is_damaged(layer):
                    raise
                return False
            finally:
                timings.queue_s = lease.queued_s
            timings.container_id = session.container.id
            timings.source = lease.source
            timings.start_s = lease.start_s or None
            timings.lease_at = lease.entered_at
            timings.lease_s = time.perf_counter() - lease.entered_at  # until it is open
            entry = HeldSession(self._new_id(tenant), request.language, session)
            if opened.cancelled():
                return True
            self._entries[entry.id] = entry
            self._observer.opened(entry.language)
            try:
                opened.set_result(entry)
                await session.until_ended()
            finally:
                del self._entries[entry.id]
                reason = session.reason or SessionEnd.LOST
                self._ended[entry.id] = session.tenant, session.ended(reason)
                while len(self._ended) > REMEMBERED:
                    self._ended.popitem(last=False)
                self._ends[reason] += 1
                self._observer.ended(entry.language, reason, session.runs)
        return True
