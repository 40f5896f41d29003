"""The books of the pool: every container that exists or is being started, by state.

Each transition changes the books synchronously. Its slow part (to start, reset or remove a
container) is a task of the fleet, which ends in the next transition and a call of
`on_change`. No transition calls `on_change` before its books are right.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from functools import partial
from typing import TYPE_CHECKING, assert_never

from pool.container import State
from pool.engine.cleanup import backoff, until_removed
from pool.errors import ContainerLost, EngineError, EngineUnavailable, PoolError
from pool.observer import Snapshot
from pool.sizing import planning
from pool.sizing.recycling import Outcome, Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from pool.config import PoolConfig
    from pool.container import Container
    from pool.job import ResetReport
    from pool.lease import Launcher, Lease
    from pool.observer import Observer
    from pool.sizing.target import Demand

logger = logging.getLogger(__name__)

_LAST_TRIES = 4
"""While the fleet closes, it tries so many times to remove a container: for 3.5 seconds."""
_CANCEL_S = 1.0
"""The fleet waits so many seconds for cancelled tasks to end, and then closes without them."""


class Fleet:
    """Starts, resets and removes containers, and knows the state of each."""

    def __init__(
        self,
        launcher: Launcher,
        config: PoolConfig,
        observer: Observer,
        on_change: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self.idle: list[Container] = []  # least recently used first
        self.leased: set[Container] = set()  # those of sessions, too
        self.sessions: set[Container] = set()
        self.resetting: set[Container] = set()
        self.destroying: set[Container] = set()
        self.stuck: set[Container] = set()  # those of `destroying` that could not be removed yet
        self.starts: dict[int, asyncio.Task[None]] = {}  # by number
        self.abandoned: set[asyncio.Task[Container]] = set()  # launches that are cleaning up
        self.failures = 0  # of starts, in a row
        self.retry_at = -math.inf  # a failure before this time counts as one with the last
        self.start_failure: str | None = None  # the last failure's text, until a start succeeds
        self.start_s = 0.0  # the time that a start takes, a moving average
        self.closing = False
        self._launcher = launcher
        self._config = config
        self._observer = observer
        self._on_change = on_change
        self._now = clock
        self._tasks: set[asyncio.Task[None]] = set()
        self._sequence = 0
        self._renewals = 0

    @property
    def usable(self) -> int:
        """The number of containers that are idle, leased for a run, or resetting."""
        return len(self.idle) + self.running + len(self.resetting)

    @property
    def running(self) -> int:
        """The number of containers that are leased for a run, not for a session."""
        return len(self.leased) - len(self.sessions)

    def snapshot(self, waiting: int, unready: str | None, *, full: bool) -> Snapshot:
        """Count the containers by state. The caller gives the three fields that it knows."""
        return Snapshot(
            starting=len(self.starts),
            idle=len(self.idle),
            leased=self.running,
            session=len(self.sessions),
            resetting=len(self.resetting),
            destroying=len(self.destroying) + len(self.abandoned),
            waiting=waiting,
            start_failure=self.start_failure,
            unready=unready,
            full=full,
        )

    def retry(self) -> None:
        """Forget the back-off. After failures the next start is still a single try."""
        self.retry_at = -math.inf
        self.failures = min(1, self.failures)

    def view(
        self, waiting: Iterable[Lease], demand: Demand, *, paused: bool
    ) -> planning.View[Container, Lease]:
        """Return the facts for a plan. If `paused`, the plan will not start containers."""
        return planning.View(
            idle=self.idle,
            waiting=waiting,
            resetting=[container.tenant for container in self.resetting],
            starting=len(self.starts),
            leased=self.running,
            sessions=len(self.sessions),
            holders=(container.tenant for container in self.leased),
            destroying=len(self.destroying) + len(self.abandoned),
            stuck=len(self.stuck) + len(self.abandoned),
            failures=max(1, self.failures) if paused else self.failures,
            retry_at=math.inf if paused else self.retry_at,
            demand=demand,
        )

    # --- transitions --------------------------------------------------------------------------

    def hold(self, container: Container, tenant: str) -> None:
        """Lease a container; if it is idle, take it off that list."""
        self._strike(container)
        container.state = State.LEASED
        container.tenant = tenant
        self.leased.add(container)

    def keep(self, lease: Lease) -> Container:
        """Make a lease a session; return its container. Raises `ContainerLost` if it has gone."""
        container = lease.container
        if container.state is not State.LEASED:
            raise ContainerLost("the container was lost")
        lease.outcome = Outcome.SESSION
        container.uses += 1
        container.state = State.SESSION
        self.sessions.add(container)
        return container

    def put_back(self, container: Container) -> None:
        """Make a container idle; destroy it if it is lost, outdated, or the pool is closing."""
        if self.closing or container.lost:
            self.destroy(container, Reason.DRAINED if self.closing else Reason.LOST)
            return
        if container.outdated:
            self.destroy(container, Reason.EVICTED)
            return
        self._strike(container)
        if container.uses == 0:
            container.tenant = None
        container.state = State.IDLE
        container.idle_since = self._now()
        self.idle.append(container)

    def reset(self, container: Container, then: Callable[[ResetReport], None]) -> None:
        """Await the report on a container's reset, and call `then` with it.

        `then` is not called if the container is destroyed first.
        """
        self._strike(container)
        container.state = State.RESETTING
        self.resetting.add(container)
        self._spawn(self._reset(container, then), f"reset {container.id[:12]}")

    def destroy(self, container: Container, reason: Reason) -> None:
        """Remove a container from the engine; try again until it succeeds."""
        if container.state is State.DESTROYING:
            return
        if container.state is State.SESSION and container.on_lost:
            container.on_lost(container)
        self._strike(container)
        container.state = State.DESTROYING
        container.on_lost = None
        self.destroying.add(container)
        self._spawn(self._remove(container, reason), f"remove {container.id[:12]}")

    def renew(self) -> None:
        """Destroy what is idle now, and all else that has begun to start when it would be idle."""
        self._renewals += 1
        for container in (*self.leased, *self.resetting):
            container.outdated = True
        for container in tuple(self.idle):
            self.destroy(container, Reason.EVICTED)

    def start(self) -> None:
        """Start a container of the pool's own kind."""
        self._sequence += 1
        number = self._sequence
        task = self._spawn(self._start(number), f"start {number}")
        self.starts[number] = task
        # If the task is cancelled before its first step, its `finally` never runs, and this start
        # would keep a slot for ever.
        task.add_done_callback(lambda _: self.starts.pop(number, None))

    # --- closing ------------------------------------------------------------------------------

    def refuse(self) -> None:
        """Begin to close: destroy each container that no lease uses; start none any more."""
        self.closing = True
        for task in self.starts.values():
            task.cancel()  # ends in a later turn of the loop, so `starts` does not change here
        for container in (*self.idle, *self.resetting):
            self.destroy(container, Reason.DRAINED)

    def revoke(self) -> None:
        """Destroy all leased containers."""
        for container in tuple(self.leased):
            self.destroy(container, Reason.DRAINED)

    async def finish(self, timeout_s: float) -> None:
        """Wait for the tasks; after `timeout_s` seconds cancel them. Log the containers left."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                # A loop: a cancelled start adds its launch to `abandoned` only in its own turn.
                while pending := {*self._tasks, *self.abandoned}:
                    await asyncio.wait(pending)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_CANCEL_S)
        if self.destroying:
            left = ", ".join(sorted(container.id[:12] for container in self.destroying))
            logger.error("could not remove these containers: %s", left)
        if self.abandoned:
            logger.error("%d failed starts could not be cleaned up", len(self.abandoned))

    # --- the slow parts -----------------------------------------------------------------------

    async def _start(self, number: int) -> None:
        began, renewals = self._now(), self._renewals
        task = self._launch(number)
        try:
            async with asyncio.timeout(self._config.start_timeout_s):
                # Shielded: a cancelled launch still has to remove its container. Until then it must
                # be in `abandoned`; else the pool would count one container too few.
                container = await asyncio.shield(task)
        except PoolError as error:
            self._start_failed(error.kind, str(error) or type(error).__name__)
        except TimeoutError:
            self._abandon(task)
            late = f"not ready within {self._config.start_timeout_s:g} s"
            self._start_failed("timeout", f"{late}; PGEXEC_START_TIMEOUT_S gives them more")
        except asyncio.CancelledError:
            self._abandon(task)
            raise
        except Exception as error:
            logger.exception("an unexpected error while starting a container")
            self._start_failed("unexpected", f"{type(error).__name__}: {error}")
        else:
            self._adopt(container)
            container.start_s = self._now() - began
            container.outdated = renewals != self._renewals
            self._started(container.start_s)
            self.put_back(container)
        finally:
            # In the same step as the above. With an `await` in between, the container would be
            # counted twice, or not at all.
            self.starts.pop(number, None)
        self._on_change()

    def _launch(self, number: int) -> asyncio.Task[Container]:
        async def launch() -> Container:
            return await self._launcher(number)

        return asyncio.create_task(launch(), name=f"launch {number}")

    def _abandon(self, task: asyncio.Task[Container]) -> None:
        """Cancel a launch. It keeps its slot until its container is removed."""
        self.abandoned.add(task)
        task.cancel()
        task.add_done_callback(self._cleaned_up)

    def _cleaned_up(self, task: asyncio.Task[Container]) -> None:
        self.abandoned.discard(task)
        if not task.cancelled() and task.exception() is None:  # it was ready after all
            self.destroy(task.result(), Reason.CANCELLED)
        self._on_change()

    async def _reset(self, container: Container, then: Callable[[ResetReport], None]) -> None:
        report = await container.reset(timeout_s=self._config.reset_timeout_s)
        # In any other state a drain or `lose` has destroyed the container during the `await`: it
        # must not be put back.
        if container.state is State.RESETTING:
            then(report)
            self._on_change()

    async def _remove(self, container: Container, reason: Reason) -> None:
        def give_up(failures: int) -> bool:
            if self.closing and failures >= _LAST_TRIES:
                return True  # its runner ends it, as its stream is closed; `finish` names it
            if failures == 1:
                # Else each plan would promise this slot to a waiter, as one that is soon free.
                self.stuck.add(container)
                self._on_change()
            return False

        try:
            await until_removed(
                container.id,
                partial(self._try_removal, container),
                pause_s=self._backoff,
                give_up=give_up,
            )
        except PoolError:
            return
        self.stuck.discard(container)
        self.destroying.discard(container)
        self._observer.destroyed(reason, container.uses)
        self._on_change()

    async def _try_removal(self, container: Container) -> None:
        """Try once to remove a container. Turns any error into a `PoolError`.

        `_remove` tries again after a `PoolError` only. After another error, or without the time
        limit, the container would keep its slot for ever.
        """
        timeout_s = self._config.remove_timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                await container.destroy()
        except PoolError:
            raise
        except TimeoutError as error:
            raise EngineUnavailable(f"not removed within {timeout_s:g} s") from error
        except Exception as error:
            logger.exception("an unexpected error while removing %s", container.id[:12])
            raise EngineError(f"{type(error).__name__}: {error}") from error

    def _backoff(self, failures: int) -> float:
        config = self._config
        return backoff(failures, first_s=config.backoff_first_s, longest_s=config.backoff_max_s)

    # --- events and small parts ---------------------------------------------------------------

    def _adopt(self, container: Container) -> None:
        container.started_at = container.idle_since = self._now()
        container.on_lost = self._lost

    def _lost(self, container: Container) -> None:
        # In any other state a lease or a reset is under way: its end destroys the container.
        if container.state is not State.IDLE:
            return
        logger.warning("idle container %s was lost", container.id[:12])
        if container.uses == 0:
            # Else containers that die right after their start would be replaced in a hot loop.
            self._start_failed("lost", "a container ended before its first use")
        self.destroy(container, Reason.LOST)
        self._on_change()

    def _started(self, seconds: float) -> None:
        if self.start_failure is not None:
            logger.info("containers start again")
        self.start_failure = None
        self.failures = 0
        self.retry_at = -math.inf  # else a failure before that time would not be counted
        self.start_s = seconds if not self.start_s else 0.8 * self.start_s + 0.2 * seconds
        self._observer.started(seconds)

    def _start_failed(self, kind: str, reason: str) -> None:
        now = self._now()
        if now >= self.retry_at:  # several failures at once count as one
            self.failures += 1
            self.retry_at = now + self._backoff(self.failures)
        if reason != self.start_failure:
            logger.warning("containers fail to start: %s", reason)
        self.start_failure = reason
        self._observer.start_failed(kind)

    def _strike(self, container: Container) -> None:
        """Take a container off the list of its present state."""
        match container.state:
            case State.STARTING:
                pass
            case State.IDLE:
                self.idle.remove(container)
            case State.LEASED:
                self.leased.remove(container)
            case State.SESSION:
                self.leased.remove(container)
                self.sessions.remove(container)
            case State.RESETTING:
                self.resetting.remove(container)
            case State.DESTROYING:
                raise RuntimeError(f"{container!r} is beyond recall")
            case _:
                assert_never(container.state)

    def _spawn(self, work: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
