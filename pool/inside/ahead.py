"""Import modules in a waiting child before its job comes, and put them on the shelf.

Nobody waits for these imports: they are made in small steps while nothing else is to be done, and
a job that comes meanwhile waits for one step at most (docs/adr/0020).

Runs inside the container: standard library only, any CPython since 3.8.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import mmap
import sys
import time
from resource import RUSAGE_SELF, getrusage
from typing import TYPE_CHECKING, Callable, Iterable, Iterator

from pool.inside import fast_exit
from pool.inside.recorder import Recorder, note_older
from pool.inside.shelf import Hidden, Shelf

if TYPE_CHECKING:
    import select

_UNTRIED = (3, 15)
"""From this CPython on nothing is imported ahead: there `inspect` was seen to differ afterwards."""
_IDLE_S = 0.15
"""A child that has waited for so many seconds more imports what no run has asked for yet."""
_FEW_PAGES = 16
_STEP_S, _BUSY_WAIT_S = 0.002, 0.1
"""It then waits after each step of so many seconds, and for longer if the machine is busy."""


class Stop(BaseException):
    """Ends an import between two modules. No module's `except Exception` catches it."""


class Idle:
    """What a child does while it waits: it imports what the snippet is likely to import.

    First come those of the modules `names` that the last run of the container imported; they cost
    no more before the job than they would in it. The others follow when the child has waited for
    longer, one small step after the other, as long as they take no more than `memory_bytes`.
    """

    def __init__(self, names: Iterable[str], memory_bytes: int) -> None:
        self.names = dict.fromkeys(names if sys.version_info < _UNTRIED else ())
        self.memory_bytes = memory_bytes
        self._older: dict[str, Hidden] = {}
        if self.names:  # else no run has memory in common with the next one
            self.page = mmap.mmap(-1, mmap.PAGESIZE)
            """Shared by PID 1 and all children: a run leaves here what it imported."""

    def note_older(self) -> None:
        """Note in PID 1 what all children have, when all of it is imported."""
        self._older = note_older() if self.names else {}

    def use(self, waiting: select.poll) -> None:
        """Import until a job comes, of which `waiting` tells, or until all is imported."""
        if not self.names:
            return
        shelf = Shelf(self._older)
        steps = _Steps(waiting, self.memory_bytes)
        last = [name for name in self._take_wishes() if name in self.names]
        fill(shelf, self._older, self._in_turn(last, steps), steps)
        for name in self.names:
            if waiting.poll(0):
                break
            shelf.plan(name)
        shelf.wish(self.page, self.names)
        shelf.open()

    def _in_turn(self, last: list[str], steps: _Steps) -> Iterator[str]:
        yield from last
        steps.slow_down()
        yield from self.names

    def _take_wishes(self) -> list[str]:
        """Return what the last run left, and erase it: it is nothing for the next snippet."""
        text = bytes(self.page).rstrip(b"\0")
        self.page[: len(text)] = bytes(len(text))
        return text.decode("ascii", "replace").split("\0")


class _Steps:
    """Decides after each module that is loaded if there is time and memory for another one."""

    def __init__(self, waiting: select.poll, memory_bytes: int) -> None:
        self._waiting = waiting
        self._slow = False
        self._time = self._used = 0.0
        self._most_kib = _written_kib() + (memory_bytes >> 10)
        self._look_at = 0

    def __call__(self) -> None:
        """Raise `Stop` if a job has come, or the memory is used up; wait if others need the time.

        An import that got less than half a processor shows that the machine is busy.
        """
        if self._waiting.poll(0) or self._is_full():
            raise Stop
        if self._slow:
            used = time.process_time() - self._used
            took = time.perf_counter() - self._time
            if used > _STEP_S:
                self._wait(_BUSY_WAIT_S if took > 2 * used + _STEP_S else used)

    def slow_down(self) -> None:
        """Wait for a while, and from now on use half of a processor at most."""
        self._slow = True
        self._wait(_IDLE_S)

    def _is_full(self) -> bool:
        """Return True if too much is written to. Each page costs a fault, which is less to count.

        So the memory itself is looked at when half of what is left can be used up.
        """
        faults = getrusage(RUSAGE_SELF).ru_minflt
        if faults < self._look_at:
            return False
        left_kib = self._most_kib - _written_kib()
        self._look_at = faults + max(_FEW_PAGES, (left_kib << 9) // mmap.PAGESIZE)
        return left_kib < 0

    def _wait(self, seconds: float) -> None:
        if self._waiting.poll(seconds * 1000):
            raise Stop
        self._time, self._used = time.perf_counter(), time.process_time()


def _written_kib() -> int:
    """Return how much memory this process does not share with PID 1; 0 if the kernel hides it."""
    with contextlib.suppress(OSError), open("/proc/self/smaps_rollup", "rb") as file:
        for line in file:
            if line.startswith(b"Private_Dirty:"):
                return int(line.split()[1])
    return 0


def fill(
    shelf: Shelf,
    older: dict[str, Hidden],
    names: Iterable[str],
    step: Callable[[], None],
    look: Callable[[], None] = fast_exit.look_at_new_classes,
) -> None:
    """Import the modules `names` one after the other, and put on the shelf what that loads.

    `older` are the modules that are imported already, and stay so. `step` is called before each
    module that is loaded. It and `names` may raise `Stop`. `look` is called before new objects are
    hidden from the collector. What fails to be imported is left out, with all that needs it.
    """
    recorder = Recorder(older, step)
    collecting = gc.isenabled()
    gc.disable()
    try:
        with recorder.recording():
            for name in names:
                # Whatever is wrong, the snippet that imports the module will see it.
                with contextlib.suppress(Exception, SystemExit, KeyboardInterrupt):
                    importlib.import_module(name)
                look()
                gc.freeze()
    except Stop:
        pass
    finally:
        recorder.hide(shelf)
        look()
        gc.freeze()
        if collecting:
            gc.enable()
