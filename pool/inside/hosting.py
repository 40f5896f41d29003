"""PID 1 of a session's container: it keeps one interpreter, and hands it cell after cell.

The runner imports this module once its first JOB has begun a session, and never returns from it: no
other run will use the container. So here, unlike in `runner`, bytes of a job may become objects.

Runs inside the container: standard library only, any CPython since 3.8.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import sys
import time
from typing import TYPE_CHECKING, NoReturn

from pool.inside import collect, reset, session
from pool.inside.allowance import Allowance
from pool.inside.cell_relay import CellRelay
from pool.inside.cells import has_syntax_error
from pool.inside.child import unread_bytes
from pool.inside.input_files import replace_all
from pool.inside.outbox import READ_BYTES
from pool.inside.protocol import (
    BETWEEN_BYTES,
    FOUND,
    HEADER,
    INTERRUPT,
    JOB_HEADER_SIZE,
    Ending,
    Exit,
    Found,
    JobHeader,
    Kind,
    Step,
    decode_job,
    encode,
    encode_exit,
)
from pool.inside.relay import HOST_IN
from pool.inside.session_child import CELL, SessionChild
from pool.inside.users import become_user

if TYPE_CHECKING:
    from pool.inside.child import Child
    from pool.inside.runner import Runner

FILES_S = 25.0
"""The input files of a cell may take so many seconds."""
TIDY_S = 1.0
"""If they take longer, what is written of them has so many seconds to be removed again."""
_MAX_PIECES = 1000
_ENDINGS = {
    errno.ENOSPC: Ending.NO_ROOM,
    errno.EDQUOT: Ending.NO_ROOM,
    errno.ENOMEM: Ending.NO_ROOM,
}


class Host:
    """The loop of PID 1 in a session: keep the interpreter, receive a cell, report its end."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.user = runner.user
        self.child: SessionChild
        self.streams: dict[int, Kind] = {}
        self.poller = select.poll()
        self.between: list[tuple[Kind, bytes]] = []
        self.between_bytes = 0
        self.between_cut = False
        self.restarted = self.alive = False
        self.told = b""
        """What the server has sent of its next frame, less than a frame."""
        self.opening = session.Opening("", "", "", "", b"", 0)

    def serve(self, header: JobHeader) -> NoReturn:
        """Start the interpreter of the session that `header` begins; serve its cells for ever."""
        runner = self.runner
        layer_at = HEADER.size + JOB_HEADER_SIZE
        code_at = layer_at + header.layer_size
        strings_at = code_at + header.code_size + header.stdin_size
        self.opening = session.Opening(
            runner.script,
            runner.layers,
            runner.preload,
            bytes(runner.job[layer_at:code_at]).decode(),
            bytes(runner.job[strings_at : strings_at + header.strings_size]),
            header.args,
        )
        self.end(runner.child)
        self.start()
        while True:
            self.run(self.receive())

    def end(self, child: Child) -> None:
        """Kill every other process of the container. Ends it if one cannot be killed."""
        runner, deadline = self.runner, time.monotonic() + reset.TIMEOUT_S
        runner.reaper.end(child, deadline)
        if not reset.reap_all(deadline):
            os._exit(71)
        child.close()

    def start(self) -> None:
        """Start an interpreter, in place of the one that has ended."""
        runner = self.runner
        signal.signal(signal.SIGINT, session.ignore_interrupt)  # which the child inherits
        child = SessionChild(self.user)
        if child.fork():
            try:
                session.serve(child, self.user, self.opening)
            finally:
                # A cell has closed the socket. PID 1 sees that, too, and kills: the same status,
                # whichever is first.
                os.kill(os.getpid(), signal.SIGKILL)
                os._exit(70)
        self.child = child
        self.alive = True
        self.streams = {child.stdout_r: Kind.STDOUT, child.stderr_r: Kind.STDERR}
        child.close_stdin()
        self.poller = select.poll()
        for fd in (*self.streams, child.job_w, runner.reaper.wake, HOST_IN):
            self.poller.register(fd, select.POLLIN)

    def bury(self) -> None:
        """End what is left of an interpreter. The files of the session stay.

        The next cell starts another one. An interpreter that always dies at its start would
        otherwise be started again and again.
        """
        for fd in list(self.streams):
            left = unread_bytes(fd)
            while left > 0 and fd in self.streams:
                left -= max(1, self.keep_output(fd))
        self.end(self.child)
        self.alive = False
        self.restarted = True
        self.streams = {}
        self.poller = select.poll()
        for fd in (self.runner.reaper.wake, HOST_IN):
            self.poller.register(fd, select.POLLIN)

    # --- between the cells --------------------------------------------------------------------

    def receive(self) -> JobHeader:
        """Read one JOB into the arena; some of it may have come. Keep output meanwhile."""
        job = self.runner.job
        filled = len(self.told)
        job[:filled] = self.told
        while True:
            while filled >= HEADER.size:
                kind, size = HEADER.unpack_from(job)
                wanted = HEADER.size + size
                if kind == Kind.INTERRUPT and size == INTERRUPT.size:
                    if filled < wanted:
                        break
                    job[: filled - wanted] = job[wanted:filled]  # of a cell that has ended
                    filled -= wanted
                    continue
                if kind != Kind.JOB or size < JOB_HEADER_SIZE or wanted > len(job):
                    os._exit(72)
                if filled < wanted:
                    break
                return self.read_job(wanted, filled)
            ready = {fd for fd, _ in self.poller.poll()}
            if HOST_IN in ready:
                got = os.readv(HOST_IN, [job[filled:]])
                if got == 0:
                    os._exit(0)
                filled += got
            self.look_after(ready)

    def read_job(self, wanted: int, filled: int) -> JobHeader:
        """Read the JOB in the arena: it has `wanted` bytes, and files begin behind it."""
        runner = self.runner
        header = decode_job(runner.job[HEADER.size : wanted])
        end = min(filled, wanted + header.files_size)
        runner.job_end, runner.surplus = wanted, runner.job[wanted:end]
        self.told = bytes(runner.job[end:filled])  # an INTERRUPT may have come with the JOB
        if header.step != Step.CELL:
            os._exit(72)
        return header

    def look_after(self, ready: set[int]) -> None:
        """Keep the output in the pipes that are `ready`; notice if the interpreter has ended."""
        for fd in ready & set(self.streams):
            self.keep_output(fd)
        if self.runner.reaper.wake in ready:
            self.runner.reaper.reap(self.child)
        if self.alive and (self.child.exited is not None or self.child.job_w in ready):
            self.bury()  # also if it speaks unasked, or has closed its socket

    def keep_output(self, fd: int) -> int:
        """Keep output that no cell has asked for, for the next one, or drop it if it is too much.

        Returns the number of bytes, -1 for none.
        """
        try:
            data = os.read(fd, READ_BYTES)
        except BlockingIOError:
            return -1
        kind = self.streams[fd]
        if not data:
            self.poller.unregister(fd)
            del self.streams[fd]
            return 0
        room = BETWEEN_BYTES - self.between_bytes
        self.between_cut |= len(data) > room
        kept = data[: max(0, room)]
        if kept and self.between and self.between[-1][0] is kind:
            kept = self.between.pop()[1] + kept
            self.between.append((kind, kept))
            self.between_bytes += min(len(data), room)
        elif kept and len(self.between) < _MAX_PIECES:
            self.between.append((kind, kept))
            self.between_bytes += len(kept)
        elif kept:
            self.between_cut = True
        return len(data)

    def tell_between(self) -> None:
        """Send what has happened since the last cell."""
        frames = [encode(Kind.RESTARTED)] if self.restarted else []
        frames += [encode(kind, data) for kind, data in self.between]
        if frames:
            self.runner.outbox.send(b"".join(frames))
        self.restarted = False
        self.between.clear()
        self.between_bytes = 0

    # --- a cell -------------------------------------------------------------------------------

    def run(self, header: JobHeader) -> None:
        """Run the cell in the arena, and send its EXIT."""
        runner = self.runner
        if not self.alive:
            self.start()
        self.tell_between()
        truncated, self.between_cut = self.between_cut, False
        stamp_ns = time.time_ns()
        if header.files_size:
            ending = self.write_files(header, stamp_ns + 1)
            if ending is not Ending.EXITED:
                nothing = Exit(header.run, ending, 0, truncated, 0, 0, 0)
                runner.outbox.send(encode_exit(nothing))
                return
        started = time.monotonic()
        if header.memory_limit:
            runner.memory.mark()
        runner.oom.mark()
        runner.cpu.mark()
        relay = self.relay(header, started)
        relay.until(started + header.timeout_ms / 1000)
        self.told = relay.told
        if header.collect_size:
            self.collect(header, stamp_ns)
        exit_ = self.exit(header, relay, started)
        runner.outbox.send(encode_exit(exit_._replace(truncated=truncated or exit_.truncated)))
        if relay.status is None or self.child.exited is not None:
            self.bury()
            self.start()

    def relay(self, header: JobHeader, started: float) -> CellRelay:
        """Return the relay of the cell in the arena."""
        runner = self.runner
        begin = HEADER.size + JOB_HEADER_SIZE + header.layer_size
        sizes = header.code_size, header.stdin_size, header.strings_size
        head = CELL.pack(header.run, *sizes, header.args, header.shown_limit, header.output_limit)
        command = [memoryview(head), runner.job[begin : begin + sum(sizes)]]
        meters = (runner.cpu, runner.memory)
        allowance = Allowance(header, meters, runner.cpus, self.child.pid, started)
        return CellRelay(
            self.child,
            self.streams,
            runner.outbox,
            runner.reaper,
            header,
            command,
            allowance,
            self.told,
        )

    def exit(self, header: JobHeader, relay: CellRelay, started: float) -> Exit:
        """Return the end of a cell, as the interpreter or the kernel has told it."""
        runner, child = self.runner, self.child
        duration_us = round((time.monotonic() - started) * 1e6)
        cpu_us = runner.cpu.used_us(None if child.reaped else child.pid)
        status, ending, killed = relay.status, relay.reached or Ending.EXITED, False
        if status is None:
            wait_status = signal.SIGKILL if child.exited is None else child.exited
            killed = os.WIFSIGNALED(wait_status)
            status = -os.WTERMSIG(wait_status) if killed else os.WEXITSTATUS(wait_status)
        oom_killed = status != 0 and runner.oom.risen()
        if ending is Ending.EXITED and oom_killed:
            ending = Ending.MEMORY_LIMIT
        elif ending is Ending.EXITED and killed:
            ending = Ending.SIGNALED
        peak_bytes = max(relay.peak_kib, child.peak_kib) * 1024
        fields = (status, relay.truncated, duration_us, cpu_us, peak_bytes, oom_killed)
        return Exit(header.run, ending, *fields, relay.exception)

    def collect(self, header: JobHeader, stamp_ns: int) -> None:
        """Send the files that the cell asks for.

        The interpreter and its threads may change them meanwhile: they are read as its user.
        """
        runner = self.runner
        request = runner.job[runner.job_end - header.collect_size : runner.job_end]
        try:
            source = collect.start(header, request, self.user, runner.script, stamp_ns)
        except BlockingIOError:
            runner.outbox.send(encode(Kind.FILES, FOUND.pack(Found.NO_PROCESS, 0, 0)))
            return
        collect.pass_on(source, runner.outbox, HOST_IN, 0)  # an INTERRUPT may come

    def write_files(self, header: JobHeader, stamp_ns: int) -> Ending:
        """Write the input files as the session's user, by a process that no cell can have changed.

        Returns `EXITED`, or why they could not be written.
        """
        runner = self.runner
        reader, writer = os.pipe()
        told_r, told_w = os.pipe()
        os.set_blocking(writer, False)
        unsaid = Ending.NOT_WRITTEN
        try:
            pid = os.fork()
        except OSError as error:
            pid = -1
            if error.errno == errno.EAGAIN:
                unsaid = Ending.NO_PROCESS
        if pid == 0:
            self.be_writer(reader, told_w, header, stamp_ns)
        os.close(reader)
        os.close(told_w)
        deadline = time.monotonic() + FILES_S
        self.pour(runner.surplus, writer, deadline)
        left = header.files_size - len(runner.surplus)
        while left:
            got = os.readv(HOST_IN, [runner.window[: min(left, len(runner.window))]])
            if not got:
                os._exit(0)
            left -= got
            self.pour(runner.window[:got], writer, deadline)
        os.close(writer)
        waiting = select.poll()
        waiting.register(told_r, select.POLLIN)
        waiting.poll(max(TIDY_S, deadline - time.monotonic()) * 1000)
        os.set_blocking(told_r, False)
        try:
            said = os.read(told_r, 1)
        except BlockingIOError:
            said = b""
            os.kill(pid, signal.SIGKILL)
        os.close(told_r)
        return Ending(said[0]) if said else unsaid

    def be_writer(self, reader: int, told_w: int, header: JobHeader, stamp_ns: int) -> NoReturn:
        """Write the files that come from `reader`, and say how that went.

        A cell with a syntax error changes nothing: its files are dropped.
        """
        try:
            os.dup2(reader, 0)
            os.dup2(told_w, 1)
            os.closerange(2, max(told_w, self.runner.child.highest) + 1)
            become_user(self.user)
            sys.stderr = None  # the compiler may warn; the cell's own interpreter does that, too
            begin = HEADER.size + JOB_HEADER_SIZE + header.layer_size
            error, ending = None, Ending.EXITED
            if not has_syntax_error(bytes(self.runner.job[begin : begin + header.code_size])):
                error = replace_all(0, header.files_size, stamp_ns)
            if error is not None:
                ending = _ENDINGS.get(error.errno or 0, Ending.NOT_WRITTEN)
            os.write(1, bytes([ending]))
        finally:
            os._exit(0)

    def pour(self, data: memoryview, writer: int, deadline: float) -> None:
        """Send data to the writer. Drop it if the writer has ended, or is too slow."""
        waiting = select.poll()
        waiting.register(writer, select.POLLOUT)
        while data:
            left_s = deadline - time.monotonic()
            if left_s <= 0 or not waiting.poll(left_s * 1000):
                return
            try:
                data = data[os.write(writer, data) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                return
