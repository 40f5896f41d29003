"""A session: a lease that lasts, with one living interpreter that takes cell after cell.

It is never recycled and never shared. It ends for one of the reasons of `SessionEnd`, and its
container with it.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

from pool.errors import NoRoom, NotWritten, PoolError, SessionBusy, SessionEnd, SessionEnded
from pool.inside.protocol import Step

if TYPE_CHECKING:
    from collections.abc import Callable

    from pool.container import Container
    from pool.inside.protocol import Kind
    from pool.job import Job, Result
    from pool.output import OnOutput

OPEN_S = 5.0
"""A runner has so many seconds to begin a session, besides those for files."""
_SENTENCES = {
    SessionEnd.DELETED: "the session was deleted",
    SessionEnd.IDLE: "the session has ended: it was idle for {idle_s:g} s",
    SessionEnd.AGE: "the session has ended: it was {age_s:g} s old",
    SessionEnd.QUOTA: "the session has ended: it was idle, and its place was needed for another",
    SessionEnd.LOST: "the session has ended: its container was lost",
    SessionEnd.DRAINED: "the session has ended: the server was about to stop",
}
_AFTER_THE_CELL = frozenset({SessionEnd.AGE, SessionEnd.DRAINED})
"""For these reasons a session ends only once its cell has."""


class PooledSession:
    """One session, of `tenant`, in the container of a lease that was kept.

    `idle_s` and `max_age_s` bound its life, in seconds. `began_at` and `used_at` are times of
    `clock`. `runs` counts its cells.
    `closed` is set once the lease is over.
    """

    def __init__(
        self,
        container: Container,
        tenant: str,
        closed: asyncio.Event,
        *,
        idle_s: float,
        max_age_s: float,
        clock: Callable[[], float],
    ) -> None:
        self.tenant = tenant
        self.container = container
        self.idle_s = idle_s
        self.max_age_s = max_age_s
        self.began_at = self.used_at = clock()
        self.runs = 0
        self.reason: SessionEnd | None = None
        self.closed = closed
        self._now = clock
        self._changed = asyncio.Event()
        self._cell: asyncio.Task[Result] | None = None
        container.on_lost = lambda _: self.end(SessionEnd.LOST)

    @property
    def busy(self) -> bool:
        """True while a cell runs."""
        return self._cell is not None

    @property
    def expires_in_s(self) -> float:
        """The seconds after which the session ends if nothing runs in it."""
        now = self._now()
        idle_left_s = self.idle_s if self.busy else self.used_at + self.idle_s - now
        return max(0.0, min(idle_left_s, self.began_at + self.max_age_s - now))

    async def open(self, job: Job) -> None:
        """Begin the session with the layer, files and variables of a job.

        Raises the errors of `Container.run`, and `SessionEnded`.
        """
        await self._attempt(replace(job, code=b"", step=Step.OPEN, timeout_s=OPEN_S), None)

    async def run(self, job: Job, on_output: OnOutput | None = None) -> Result:
        """Run a cell and return its result, which has `shown`.

        `on_output` is as for `Container.run`. A cancellation interrupts the cell; the session is
        busy until it has ended. Raises `SessionEnded`, `SessionBusy`, `NoRoom`, `NotWritten`, and
        the other errors of `Container.run`, after which the session has ended.
        """
        self.check()
        self.runs += 1
        heard = _Heard(on_output) if on_output is not None else None
        work = self._attempt(replace(job, step=Step.CELL, layer=""), heard)
        cell = self._cell = asyncio.create_task(work, name="run a cell")
        cell.add_done_callback(self._cell_ended)
        try:
            return await asyncio.shield(cell)
        except asyncio.CancelledError:
            if heard is not None:
                heard.on_output = None
            if not cell.done():
                with contextlib.suppress(PoolError):
                    await self.container.interrupt()
            raise

    def check(self) -> None:
        """Raise `SessionEnded` or `SessionBusy` if no cell can run now."""
        if self.reason is not None:
            raise self.ended(self.reason)
        if self.busy:
            raise SessionBusy("the session runs a cell already, and it runs one at a time")

    def end(self, reason: SessionEnd) -> None:
        """End the session; the first reason counts, unless it only waits for the end of a cell."""
        waits = self.busy and self.reason in _AFTER_THE_CELL
        if self.reason is None or (waits and reason not in _AFTER_THE_CELL):
            self.reason = reason
        self._changed.set()

    def ended(self, reason: SessionEnd) -> SessionEnded:
        """Return the error of a session that has ended for `reason`."""
        sentence = _SENTENCES[reason].format(idle_s=self.idle_s, age_s=self.max_age_s)
        return SessionEnded(sentence, reason)

    async def until_ended(self) -> SessionEnd:
        """Wait for the end of the session, and return its reason."""
        while self.reason is None or (self.busy and self.reason in _AFTER_THE_CELL):
            self._changed.clear()
            age_left_s = self.began_at + self.max_age_s - self._now()
            wait_s = None if self.reason is not None else age_left_s
            if wait_s is not None and not self.busy:
                wait_s = min(age_left_s, self.used_at + self.idle_s - self._now())
            if wait_s is not None and wait_s <= 0:
                self.end(SessionEnd.AGE if age_left_s <= 0 else SessionEnd.IDLE)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()
        return self.reason

    async def _attempt(self, job: Job, on_output: OnOutput | None) -> Result:
        try:
            return await self.container.run(job, on_output)
        except (NoRoom, NotWritten):
            raise
        except PoolError as error:
            if self.reason is not None and self.reason is not SessionEnd.LOST:
                raise self.ended(self.reason) from error
            self.end(SessionEnd.LOST)
            raise

    def _cell_ended(self, cell: asyncio.Task[Result]) -> None:
        self._cell = None
        self.used_at = self._now()
        self._changed.set()
        if not cell.cancelled():
            cell.exception()  # else asyncio logs an error if nobody waits any more


class _Heard:
    """Passes output on until its client has gone."""

    def __init__(self, on_output: OnOutput) -> None:
        self.on_output: OnOutput | None = on_output

    def __call__(self, kind: Kind, data: bytes) -> None:
        if self.on_output is not None:
            self.on_output(kind, data)
