"""Move one cell of a session to its interpreter, and what comes of it to the server.

Runs inside the container, in PID 1: standard library only, any CPython since 3.8.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import signal
import time
from typing import TYPE_CHECKING

from pool.inside import reset
from pool.inside.child import unread_bytes
from pool.inside.outbox import READ_BYTES, Outbox
from pool.inside.protocol import (
    HEADER,
    INTERRUPT,
    MAX_NAME_BYTES,
    Ending,
    JobHeader,
    Kind,
    encode,
)
from pool.inside.relay import HOST_IN
from pool.inside.session_child import REPLY, SessionChild

if TYPE_CHECKING:
    from pool.inside.allowance import Allowance
    from pool.inside.child import Reaper

GRACE_S = 1.0
"""A cell that was interrupted may go on for so many seconds; then its interpreter is killed."""
TRANSFER_S = 10.0
"""An interpreter has so many seconds to hand over the rich forms of a cell that has ended."""
_COALESCE_MS = 2
_INTERRUPT_BYTES = HEADER.size + INTERRUPT.size


class CellRelay:
    """Moves one cell. Afterwards `status` is the cell's exit status, or `None` if none came."""

    def __init__(
        self,
        child: SessionChild,
        streams: dict[int, Kind],
        outbox: Outbox,
        reaper: Reaper,
        header: JobHeader,
        command: list[memoryview],
        allowance: Allowance,
        told: bytes,
    ) -> None:
        self.truncated = False
        self.reached: Ending | None = None
        """The limit that the cell has reached; `EXITED` if the server has interrupted it."""
        self.status: int | None = None
        self.exception = b""
        self.peak_kib = 0
        self._child = child
        self._streams = streams
        self._outbox = outbox
        self._reaper = reaper
        self._header = header
        self._command = command
        self._allowance = allowance
        self._room = header.output_limit
        self._over_at = math.inf
        """After this time the interpreter is killed."""
        self.told = told
        """What the server has sent of a frame that is not complete yet."""
        self._reply = b""
        self._missing = -1  # bytes of what is shown; before the reply's head, unknown
        self._trash = memoryview(bytearray(READ_BYTES))
        self._poller = select.poll()
        for fd in (*streams, reaper.wake, HOST_IN):
            self._poller.register(fd, select.POLLIN)
        self._poller.register(child.job_w, select.POLLIN | select.POLLOUT)
        self._deliver()
        self._heed()

    def until(self, deadline: float) -> None:
        """Relay until the reply is here, or the interpreter has ended.

        `deadline` is a time of the monotonic clock, in seconds. Some output may still be in the
        outbox: it travels with the EXIT frame.
        """
        child, outbox = self._child, self._outbox
        while self._missing and child.exited is None:
            now = time.monotonic()
            next_at = self._watch(now, deadline)
            left_ms = max(0.0, next_at - now) * 1000
            events = self._poller.poll(min(left_ms, _COALESCE_MS) if outbox.used else left_ms)
            if not events or outbox.used >= READ_BYTES:
                outbox.send()
            for fd, event in events:
                self._on_ready(fd, event)
        for fd in list(self._streams):
            self._drain(fd)

    def _watch(self, now: float, deadline: float) -> float:
        """Interrupt or kill the cell if it is time for that; return when to look again."""
        if now >= self._over_at:
            self._reaper.end(self._child, now + reset.TIMEOUT_S)
            if not self._child.reaped:
                os._exit(71)  # the kernel ends all of the container with PID 1
            return now
        if self.status is not None or self.reached is not None:
            return self._over_at
        if self.truncated:
            self._interrupt(Ending.OUTPUT_LIMIT, now)
        elif now >= deadline:
            self._interrupt(Ending.TIMEOUT, now)
        elif now >= self._allowance.next_at:
            reached = self._allowance.used_up(now)
            if reached is not None:
                self._interrupt(reached, now)
        return min(deadline, self._allowance.next_at, self._over_at)

    def _interrupt(self, reached: Ending, now: float) -> None:
        """Raise KeyboardInterrupt in the cell. Without the memory for that, kill it soon."""
        self.reached = reached
        self._over_at = now if reached is Ending.MEMORY_LIMIT else now + GRACE_S
        self._child.name_interrupted(self._header.run)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._child.pid, signal.SIGINT)

    def _on_ready(self, fd: int, event: int) -> None:
        if fd in self._streams:
            self._pull(fd)
        elif fd == self._reaper.wake:
            self._reaper.reap(self._child)
        elif fd == HOST_IN:
            self._hear_server()
        elif fd == self._child.job_w:
            if event & select.POLLOUT:
                self._deliver()
            if event & ~select.POLLOUT:
                self._hear_reply()

    def _deliver(self) -> None:
        """Send as much of the cell as the socket takes."""
        child = self._child
        try:
            while self._command:
                sent = os.writev(child.job_w, self._command)
                while self._command and sent >= len(self._command[0]):
                    sent -= len(self._command.pop(0))
                if sent:
                    self._command[0] = self._command[0][sent:]
        except BlockingIOError:
            return
        except OSError:
            self._command.clear()  # it has gone, or will be found silent
        self._poller.modify(child.job_w, select.POLLIN)

    def _hear_server(self) -> None:
        data = os.read(HOST_IN, _INTERRUPT_BYTES)
        if not data:
            os._exit(0)
        self.told += data
        self._heed()

    def _heed(self) -> None:
        """Interrupt the cell if the server has said so."""
        while len(self.told) >= _INTERRUPT_BYTES:
            kind, size = HEADER.unpack_from(self.told)
            if kind != Kind.INTERRUPT or size != INTERRUPT.size:
                os._exit(72)
            (run,) = INTERRUPT.unpack_from(self.told, HEADER.size)
            self.told = self.told[_INTERRUPT_BYTES:]
            if run == self._header.run and self.reached is None and self.status is None:
                self._interrupt(Ending.EXITED, time.monotonic())

    def _hear_reply(self) -> None:
        try:
            data = os.read(self._child.job_w, READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._break_off()
        elif self._missing < 0:
            self._reply += data
            self._read_head()
        else:
            self._show(data)

    def _read_head(self) -> None:
        if len(self._reply) < REPLY.size:
            return
        run, status, peak_kib, name_size, shown_size = REPLY.unpack_from(self._reply)
        if len(self._reply) < REPLY.size + name_size:
            return
        most = self._header.shown_limit
        if run != self._header.run or name_size > MAX_NAME_BYTES or shown_size > most:
            self._break_off()
            return
        begin = REPLY.size + name_size
        self.exception = self._reply[REPLY.size : begin]
        self.status, self.peak_kib = status & 0xFF, peak_kib
        self._over_at = time.monotonic() + TRANSFER_S
        self._missing = shown_size
        self._show(self._reply[begin:])

    def _show(self, data: bytes) -> None:
        """Send what is shown on to the server."""
        if len(data) > self._missing:
            self._break_off()
        elif data:
            self._missing -= len(data)
            self._outbox.send(encode(Kind.SHOWN, data))

    def _break_off(self) -> None:
        """End an interpreter that does not keep to the protocol, or has closed the socket."""
        self._over_at = 0.0
        with contextlib.suppress(KeyError):
            self._poller.unregister(self._child.job_w)

    def _drain(self, fd: int) -> None:
        """Read the bytes that a pipe holds now, and no more: a thread may write for ever."""
        left = unread_bytes(fd)
        while left > 0 and fd in self._streams:
            size = self._pull(fd)
            if size < 0:
                return
            left -= size

    def _pull(self, fd: int) -> int:
        """Read once from the stream `fd`; return what `Outbox.read` returned.

        From the first byte over the limit on, output is dropped.
        """
        if self.truncated:
            try:
                size = os.readv(fd, [self._trash])
            except BlockingIOError:
                return -1
        else:
            size = self._outbox.read(self._streams[fd], fd, min(READ_BYTES, self._room + 1))
        if size == 0:
            self._poller.unregister(fd)
            del self._streams[fd]
        elif size > self._room:
            if not self.truncated:
                self._outbox.take_back()
            self.truncated = True
            self._room = 0
        elif size > 0:
            self._room -= size
        return size
