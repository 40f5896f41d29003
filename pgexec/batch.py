"""Many runs of one request: as many at once as there are containers, the results in order.

One run at most waits for a container. So the first ones take what is idle, and each further one
takes its turn in the queue as any request does. A batch never has more runs in the pool than its
tenant may have containers.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

from pool.errors import InstallError, NoRoom, PoolClosed, PoolError, PoolSaturated

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pgexec.service import Progress
    from pool.inside.protocol import Kind

T = TypeVar("T")
PAUSE_S = 1.0
"""After an error that says nothing else, the next try is so many seconds later."""
_FOR_ALL = (PoolClosed, InstallError, NoRoom)
"""Refusals that a second try would get again."""


class Stopped(Exception):  # noqa: N818  # no error: the request asked for it
    """An input was not run to its end, because the one at `position`, from 0, has failed."""

    def __init__(self, position: int, *, begun: bool) -> None:
        done = "was ended" if begun else "did not begin"
        super().__init__(f"this run {done}, because the one of stdins[{position}] has failed")
        self.begun = begun


class Batch(Generic[T]):
    """The runs of `count` inputs, from 0; `outcomes` has the result of each, or its error.

    - `run` runs the input of a number and tells the progress; it may be called again after an
      error that says that nothing ran
    - `ended` is called with each number and outcome as it comes; it must not raise
    - `at_once` is the most runs at once
    - `patience_s`: so many seconds an input waits for a place in the pool while no other run of the
      batch is in progress. Then it is refused, and with it all that have not begun.
    - `fails`: if it is not `None`, the batch stops at the first input, by number, whose result it
      returns True for, or that has no result. The runs of those before it go on.
    """

    def __init__(
        self,
        count: int,
        run: Callable[[int, Progress], Awaitable[T]],
        ended: Callable[[int, T | Exception], None],
        *,
        at_once: int,
        patience_s: float,
        fails: Callable[[T], bool] | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.outcomes: dict[int, T | Exception] = {}
        self._count = count
        self._run = run
        self._ended = ended
        self._at_once = at_once
        self._patience_s = patience_s
        self._fails = fails
        self._progress = progress
        self._next = 0
        self._last = count  # the number of the first failure, if there is one
        self._entering: int | None = None  # has no container yet; no other may begin
        self._begun: set[int] = set()
        self._inside: set[int] = set()  # have a container
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Run all. A cancellation ends all runs."""
        async with asyncio.TaskGroup() as group:
            while self._next < min(self._count, self._last) or self._tasks:
                while self._may_begin():
                    number = self._entering = self._next
                    self._next += 1
                    self._tasks[number] = group.create_task(self._one(number))
                self._changed.clear()
                await self._changed.wait()
        for number in range(self._next, self._count):
            self._end(number, Stopped(self._last, begun=False))

    def refuse(self, error: Exception) -> None:
        """Begin no further input: `error` is the outcome of all that have not begun."""
        waiting, self._next = range(self._next, self._count), self._count
        for number in waiting:
            self._end(number, error)

    def entered(self, number: int) -> None:
        """Hear that a run has its container: the next one may begin."""
        self._begun.add(number)
        self._inside.add(number)
        self._let_in(number)

    # ------------------------------------------------------------------------------------------

    def _may_begin(self) -> bool:
        return (
            self._next < min(self._count, self._last)
            and self._entering is None
            and len(self._tasks) < self._at_once
        )

    def _let_in(self, number: int) -> None:
        if self._entering == number:
            self._entering = None
            self._changed.set()

    async def _one(self, number: int) -> None:
        outcome: T | Exception
        try:
            outcome = await self._patiently(number)
        except asyncio.CancelledError:
            if number <= self._last:
                raise  # by the client
            outcome = Stopped(self._last, begun=number in self._begun)
        except Exception as error:  # noqa: BLE001  # whatever it is, the others go on
            outcome = error
        del self._tasks[number]
        self._end(number, outcome)
        self._let_in(number)
        self._changed.set()
        if isinstance(outcome, PoolError) and not outcome.begun:
            self.refuse(outcome)
        elif (
            self._fails is not None
            and number < self._last
            and (isinstance(outcome, Exception) or self._fails(outcome))
        ):
            self._stop(number)

    def _end(self, number: int, outcome: T | Exception) -> None:
        self.outcomes[number] = outcome
        self._ended(number, outcome)

    def _stop(self, number: int) -> None:
        self._last = number
        for other, task in self._tasks.items():
            if other > number:
                task.cancel()

    async def _patiently(self, number: int) -> T:
        """Run one input; try again if nothing ran, for lack of a place or of the container."""
        alone_at = None
        while True:
            alone_at = None if self._inside else alone_at or time.monotonic()
            try:
                return await self._run(number, _Watch(self, number, self._progress))
            except PoolError as error:
                self._inside.discard(number)
                if error.begun or isinstance(error, _FOR_ALL):
                    raise
                if self._inside:
                    # These may be why there is no place, however long they take. Those that wait
                    # here are not among them: two of them would wait for each other for ever.
                    inside = [self._tasks[other] for other in self._inside]
                    await asyncio.wait(inside, return_when=asyncio.FIRST_COMPLETED)
                    continue
                now = time.monotonic()
                pause_s = error.retry_after_s if isinstance(error, PoolSaturated) else PAUSE_S
                alone_at = alone_at or now
                if not self._begun or now + pause_s > alone_at + self._patience_s:
                    raise
                await asyncio.sleep(pause_s)
            finally:
                self._inside.discard(number)


class _Watch:
    """The `Progress` of one run; of waiting, only that of the first input is told."""

    def __init__(self, batch: Batch[T], number: int, progress: Progress | None) -> None:
        self._entered = partial(batch.entered, number)
        self._first = number == 0
        self._progress = progress

    def queued(self, position: int) -> None:
        if self._first and self._progress is not None:
            self._progress.queued(position)

    def line(self, text: str) -> None:
        if self._progress is not None:
            self._progress.line(text)

    def leased(self) -> None:
        self._entered()
        if self._progress is not None:
            self._progress.leased()

    def output(self, kind: Kind, data: bytes) -> None:
        """Ignore it: the result has all output."""
