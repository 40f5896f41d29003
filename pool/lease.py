"""The exclusive use of one container, always `async with`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Self

from pool.errors import PoolError, RunnerProtocolError
from pool.observer import Source
from pool.sizing.recycling import Outcome, Use

if TYPE_CHECKING:
    from types import TracebackType

    from pool.container import Container
    from pool.job import Job, Result
    from pool.output import OnOutput

OnQueued = Callable[[int], None]
"""Called with the place of a lease in the queue, 1 if it is next. It must not raise, block or call
the pool."""

Launcher = Callable[[int], Awaitable["Container"]]
"""Starts a container, given its number in the pool. If it fails, it must leave no container."""


class Lease:
    """One lease: `async with` gets a container at its start, and gives it back at its end.

    Inside, `container` is the container and `source` tells where it came from. If `last` is true,
    the pool destroys it after this lease. `queued_s` is the time in the queue, in seconds; it is
    set even if entering fails. `position` is the last place that `on_queued` was called with.
    `entered_at` is a time of `clock`, the pool's clock.
    """

    __slots__ = (
        "_clock",
        "_container",
        "_enter",
        "_leave",
        "_max_uses",
        "entered_at",
        "fresh",
        "last",
        "on_queued",
        "outcome",
        "position",
        "queued_s",
        "source",
        "tenant",
        "timeout_s",
    )

    def __init__(
        self,
        *,
        tenant: str,
        fresh: bool,
        timeout_s: float,
        max_uses: int,
        enter: Callable[[Lease], Awaitable[tuple[Container, Source]]],
        leave: Callable[[Lease], None],
        clock: Callable[[], float],
        on_queued: OnQueued | None = None,
    ) -> None:
        self.tenant = tenant
        self.fresh = fresh
        self.timeout_s = timeout_s
        self.on_queued = on_queued
        self.position = 0
        self.source = Source.IDLE
        self.queued_s = 0.0
        self.entered_at = 0.0
        self.last = False
        self.outcome = Outcome.UNUSED
        self._max_uses = max_uses
        self._enter = enter
        self._leave = leave
        self._clock = clock
        self._container: Container | None = None

    def __repr__(self) -> str:
        return f"<Lease of {self._container!r} tenant={self.tenant!r} {self.outcome}>"

    @property
    def start_s(self) -> float:
        """The part of the wait in the queue, in seconds, in which the container was starting.

        Only inside `async with`. 0 if the container was there before.
        """
        if self.source is not Source.STARTED:
            return 0.0
        return min(self.container.start_s, self.queued_s)

    @property
    def container(self) -> Container:
        """The container; only inside `async with`."""
        if self._container is None:
            raise RuntimeError("a lease has a container only inside `async with`")
        return self._container

    def use(self, container: Container, now: float) -> Use:
        """Return the facts about this use of `container`, by which its fate is decided."""
        return Use(
            outcome=self.outcome,
            uses=container.uses,
            age_s=now - container.started_at,
            fresh=self.fresh,
            lost=container.lost,
        )

    async def __aenter__(self) -> Self:
        if self.entered_at:
            raise RuntimeError("a lease is entered once")
        self._container, self.source = await self._enter(self)
        self.entered_at = self._clock()
        full = self._container.uses + 1 >= self._max_uses
        self.last = self.fresh or full
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # Nothing is awaited here: a cancellation at an `await` would skip the rest, and the pool
        # would count the container as leased for ever.
        self._leave(self)
        self._container = None

    async def run(self, job: Job, on_output: OnOutput | None = None) -> Result:
        """Run the job, the only one of this lease, and return its result.

        `on_output` is called with each piece of output as it comes; it must not raise. Raises the
        errors of `Container.run`, and `RuntimeError` for a second job. The lease notes how the
        run ended. At the end of the lease the pool resets or destroys the container accordingly,
        so the caller need not care.
        """
        container = self.container
        if self.outcome is not Outcome.UNUSED:
            raise RuntimeError("a lease runs one job")
        container.uses += 1
        # Before the first `await`: a run that is cancelled there reaches no line below. The pool
        # would take its container, in which the snippet may still run, for unused, and lease it.
        self.outcome = Outcome.CANCELLED
        if job.last is not self.last:
            job = replace(job, last=self.last)
        try:
            result = await container.run(job, on_output)
        except RunnerProtocolError:
            self.outcome = Outcome.PROTOCOL_ERROR
            raise
        except PoolError:
            self.outcome = Outcome.LOST
            raise
        self.outcome = Outcome(result.status)
        return result
