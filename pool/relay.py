"""Move one run's input and output between the server and the child.

Runs inside the container, in PID 1: standard library only, any CPython since 3.8.
"""

from __future__ import annotations

import os
import select
import time
from typing import TYPE_CHECKING

from pool import reset
from pool.child import unread_bytes
from pool.protocol import Ending, JobHeader, Kind

if TYPE_CHECKING:
    from pool.runner import Runner

HOST_IN = 0
"""The descriptor on which the server speaks to PID 1."""
OUTPUT_AREA = 256 * 1024
FLUSH_AT = 64 * 1024
MAX_SEGMENTS = 512
COALESCE_MS = 2
"""Output waits this long for more, or for the EXIT, so that they travel in one write."""


class Relay:
    """Moves one run's input and output between the server and the child."""

    def __init__(self, runner: Runner, header: JobHeader, stdin: memoryview) -> None:
        self.runner = runner
        self.room = header.output_limit
        self.truncated = False
        self.streams = {
            runner.child.stdout_r: Kind.STDOUT,
            runner.child.stderr_r: Kind.STDERR,
        }
        self.stdin = stdin
        self.poller = select.poll()
        for fd in self.streams:
            self.poller.register(fd, select.POLLIN)
        self.poller.register(runner.wake, select.POLLIN)
        self.poller.register(HOST_IN, select.POLLIN)
        if stdin:
            self.poller.register(runner.child.stdin_w, select.POLLOUT)
            self.feed()
        else:
            runner.child.close_stdin()

    def until(self, deadline: float) -> Ending:
        """Relay until the child has exited or a limit is reached, and everything is out.

        `deadline` is a time of the monotonic clock, in seconds.
        """
        runner = self.runner
        ending = Ending.EXITED
        while runner.exited is None:
            left_ms = (deadline - time.monotonic()) * 1000
            if left_ms <= 0 or self.truncated:
                ending = Ending.OUTPUT_LIMIT if self.truncated else Ending.TIMEOUT
                runner.end(time.monotonic() + reset.TIMEOUT_S)
                break
            events = self.poller.poll(min(left_ms, COALESCE_MS) if runner.used else left_ms)
            if not events or runner.used >= FLUSH_AT:
                runner.send([])
            for fd, _ in events:
                self.on_ready(fd)
            if not self.streams and runner.exited is None:
                runner.exited = runner.child.last_words()
        for fd in list(self.streams):
            self.drain(fd)
        if self.truncated and ending is Ending.EXITED:
            ending = Ending.OUTPUT_LIMIT
        return ending

    def on_ready(self, fd: int) -> None:
        runner = self.runner
        if fd in self.streams:
            self.pull(fd)
        elif fd == runner.wake:
            runner.reap()
        elif fd == HOST_IN:
            os._exit(0)  # the server has gone, or talks out of turn; the kernel kills the rest
        else:
            self.feed()

    def drain(self, fd: int) -> None:
        """Read what is in a pipe now; a process that outlives the child may write for ever."""
        left = unread_bytes(fd)
        while left > 0 and fd in self.streams and not self.truncated:
            left -= self.pull(fd)

    def pull(self, fd: int) -> int:
        """Read once from one stream; a byte past the limit truncates and ends the run."""
        runner = self.runner
        if runner.used + FLUSH_AT > OUTPUT_AREA or len(runner.segments) >= MAX_SEGMENTS:
            runner.send([])
        size = runner.read_output(self.streams[fd], fd, min(FLUSH_AT, self.room + 1))
        if size == 0:
            self.poller.unregister(fd)
            del self.streams[fd]
        elif size > self.room:
            self.truncated = True
            runner.unread()
            self.room = 0
        elif size > 0:
            self.room -= size
        return size

    def feed(self) -> None:
        """Write as much stdin as the child's pipe takes."""
        child = self.runner.child
        try:
            while self.stdin:
                self.stdin = self.stdin[os.write(child.stdin_w, self.stdin) :]
        except BlockingIOError:
            return
        except BrokenPipeError:
            pass
        self.poller.unregister(child.stdin_w)
        child.close_stdin()
