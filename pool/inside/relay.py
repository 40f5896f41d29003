"""Move one run's input and output between the server and the child.

Runs inside the container, in PID 1: standard library only, any CPython since 3.8.
"""

from __future__ import annotations

import os
import select
import signal
import time
from typing import TYPE_CHECKING

from pool.inside import reset
from pool.inside.child import Child, Reaper, unread_bytes
from pool.inside.outbox import READ_BYTES, Outbox
from pool.inside.protocol import Ending, JobHeader, Kind

if TYPE_CHECKING:
    from pool.inside.allowance import Allowance

HOST_IN = 0
"""PID 1 reads the server's frames from this descriptor, its stdin."""
_STREAMS = 2
_COALESCE_MS = 2
"""Output waits so many milliseconds for more output, or for EXIT: one write then carries both."""


class Relay:
    """Moves one run's input and output between the server and the child."""

    def __init__(
        self,
        child: Child,
        outbox: Outbox,
        reaper: Reaper,
        header: JobHeader,
        stdin: memoryview,
        allowance: Allowance,
    ) -> None:
        self.truncated = False
        self._child = child
        self._outbox = outbox
        self._reaper = reaper
        self._room = header.output_limit
        self._allowance = allowance
        self._streams = {child.stdout_r: Kind.STDOUT, child.stderr_r: Kind.STDERR}
        self._stdin = stdin
        self._poller = select.poll()
        for fd in (*self._streams, reaper.wake, HOST_IN):
            self._poller.register(fd, select.POLLIN)
        if stdin:
            self._poller.register(child.stdin_w, select.POLLOUT)
            self._feed()
        else:
            child.close_stdin()

    def until(self, deadline: float) -> Ending:
        """Relay until the child has exited or has reached a limit. Returns how the run ended.

        `deadline` is a time of the monotonic clock, in seconds. Some output may still be in the
        outbox: it travels with the EXIT frame.
        """
        child, outbox, allowance = self._child, self._outbox, self._allowance
        ending = Ending.EXITED
        while child.exited is None:
            now = time.monotonic()
            if reached := self._limit_reached(now, deadline):
                ending = reached
                self._reaper.end(child, now + reset.TIMEOUT_S)
                break
            left_ms = (min(deadline, allowance.next_at) - now) * 1000
            events = self._poller.poll(min(left_ms, _COALESCE_MS) if outbox.used else left_ms)
            if not events or outbox.used >= READ_BYTES:
                outbox.send()
            for fd, _ in events:
                self._on_ready(fd)
            # It has written all before its last words, and closes one stream after the other: the
            # first tells as much as both, one wake earlier.
            if len(self._streams) < _STREAMS and child.exited is None:
                child.hear_last_words()
        # The child may have written after the last poll: without this, that output would be lost.
        for fd in list(self._streams):
            self._drain(fd)
        if not self.truncated and child.exited not in (None, signal.SIGKILL):
            ending = Ending.EXITED  # it came to its own end before a kill reached it
        if self.truncated and ending is Ending.EXITED:
            ending = Ending.OUTPUT_LIMIT
        return ending

    def _limit_reached(self, now: float, deadline: float) -> Ending | None:
        if self.truncated:
            return Ending.OUTPUT_LIMIT
        if now >= deadline:
            return Ending.TIMEOUT
        return self._allowance.used_up(now) if now >= self._allowance.next_at else None

    def _on_ready(self, fd: int) -> None:
        if fd in self._streams:
            self._pull(fd)
        elif fd == self._reaper.wake:
            self._reaper.reap(self._child)
        elif fd == HOST_IN:
            # The server has gone, or breaks the protocol. The kernel kills all processes of a
            # container whose PID 1 ends; else the snippet would run on until its timeout.
            os._exit(0)
        else:
            self._feed()

    def _drain(self, fd: int) -> None:
        """Read the bytes that a pipe holds now, and no more.

        A process that the snippet has started may outlive it and write for ever: a read to the
        end of the pipe would then never return. It may also read what the snippet wrote: bytes
        that were counted may be gone when their turn comes.
        """
        left = unread_bytes(fd)
        while left > 0 and fd in self._streams and not self.truncated:
            size = self._pull(fd)
            if size < 0:
                return
            left -= size

    def _pull(self, fd: int) -> int:
        """Read once from the stream `fd`; return what `Outbox.read` returned.

        The first byte over the limit is dropped, sets `truncated`, and so ends the run.
        """
        size = self._outbox.read(self._streams[fd], fd, min(READ_BYTES, self._room + 1))
        if size == 0:
            self._poller.unregister(fd)
            del self._streams[fd]
        elif size > self._room:
            self.truncated = True
            self._outbox.take_back()
            self._room = 0
        elif size > 0:
            self._room -= size
        return size

    def _feed(self) -> None:
        """Write as much stdin as the child's pipe takes."""
        child = self._child
        try:
            while self._stdin:
                self._stdin = self._stdin[os.write(child.stdin_w, self._stdin) :]
        except BlockingIOError:
            return
        except BrokenPipeError:
            pass  # the child has closed its stdin: that is no error of the run
        self._poller.unregister(child.stdin_w)
        child.close_stdin()
