"""Measure how late the event loop is, and find the calls that block it.

Everything that waits for the loop waits longer by its lag. `sample_lag` measures the lag.
`watching` notices a blocked loop while it is blocked, and logs the calls in which it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING

from pgexec.telemetry.log import event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

logger = logging.getLogger("pgexec.watchdog")

SAMPLE_EVERY_S = 0.25
BEAT_S = 0.25
BLOCKED_S = 1.0
"""A loop that is blocked for so many seconds gets a line in the log."""
FRAMES = 5
"""This line names so many of the innermost calls."""


async def sample_lag(observe: Callable[[float], None]) -> None:
    """Call `observe` with the lag of a timer in seconds, four times a second, until cancelled.

    Timers of uvloop count whole milliseconds: a lag below one means an idle loop.
    """
    while True:
        due = time.perf_counter() + SAMPLE_EVERY_S
        await asyncio.sleep(SAMPLE_EVERY_S)
        observe(max(0.0, time.perf_counter() - due))


@contextlib.contextmanager
def watching(loop: asyncio.AbstractEventLoop, *, blocked_s: float = BLOCKED_S) -> Iterator[None]:
    """Watch a loop from a thread: log a line when it is blocked for `blocked_s`, and one after it.

    Enter this in the thread that runs the loop.
    """
    beats = _Beats(loop, blocked_s)
    ended = threading.Event()
    thread = threading.Thread(
        target=_watch, args=(beats, threading.get_ident(), ended), name="watchdog", daemon=True
    )
    beats.beat()
    thread.start()
    try:
        yield
    finally:
        ended.set()
        beats.stop()
        thread.join()


class _Beats:
    """The time of the loop's last sign of life."""

    def __init__(self, loop: asyncio.AbstractEventLoop, blocked_s: float) -> None:
        self.last = time.monotonic()
        self.blocked_s = blocked_s
        self._loop = loop
        self._handle: asyncio.TimerHandle | None = None

    @property
    def late_s(self) -> float:
        return time.monotonic() - self.last - BEAT_S

    def beat(self) -> None:
        # If the whole process was stopped, only this notices it: the watchdog was stopped, too.
        if self.late_s > self.blocked_s:
            fields = {"seconds": round(self.late_s, 1)}
            event(logger, logging.WARNING, "the event loop goes on", fields)
        self.last = time.monotonic()
        self._handle = self._loop.call_later(BEAT_S, self.beat)

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()


def _watch(beats: _Beats, thread_id: int, ended: threading.Event) -> None:
    told_of = None
    while not ended.wait(BEAT_S):
        last, late_s = beats.last, beats.late_s
        if late_s > beats.blocked_s and last != told_of:
            told_of = last
            frame = sys._current_frames().get(thread_id)  # noqa: SLF001 - there is no other way
            fields = {"seconds": round(late_s, 1), "in": _calls(frame)}
            event(logger, logging.WARNING, "the event loop is blocked", fields)


def _calls(frame: FrameType | None) -> list[str]:
    """Return file, line and name of the innermost calls."""
    stack = traceback.extract_stack(frame)[-FRAMES:] if frame else []
    return [f"{one.filename}:{one.lineno} {one.name}" for one in stack]
