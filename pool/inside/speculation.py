"""Keep a second waiting child that has imported ahead what the last run imported of its layer.

After a run with a layer of dependencies, once the container is idle, PID 1 forks it besides the
plain child. It is a process of the next run's user, of the same tenant, and imports, in the same
order, the packages with whose imports the last script began. PID 1 then stops it, looks whether it
has left anything, and has it serve a run of the same layer that begins with the same imports. Any
other run gets the plain child (docs/adr/0021).

Runs inside the container, in PID 1: standard library only, any CPython since 3.8.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import select
import signal
import struct
import time
from typing import TYPE_CHECKING

from pool.inside import leading, reset, snippet, speculative_child
from pool.inside.child import JOB, Child, unread_bytes
from pool.inside.protocol import (
    AHEAD,
    HEADER,
    JOB_HEADER_SIZE,
    Ahead,
    Ending,
    JobHeader,
    Kind,
    encode,
)
from pool.inside.speculative_child import SAYS_FITS, SAYS_READY

if TYPE_CHECKING:
    from pool.inside.config import Config
    from pool.inside.runner import Runner

FIRST_DELAY_S, _LONGEST_DELAY_S = 0.05, 2.0
"""A container has been idle for so long before. The time is doubled after each child that was of no
use, until one is again: a busy machine does not import for nothing."""
_LOOK_MS = 20
"""So often PID 1 looks how much memory and time the child takes."""
_TIMEOUT_S, _ANSWER_S = 10.0, 1.0
_GONE_S = 0.001
"""A run that has imported ahead waits for so long until the plain child is gone, which is small."""
_MAX_JOB_BYTES = 60_000
"""A pipe takes so many bytes at once, so that PID 1 need not wait for the child."""
_SIZES = struct.Struct("=II")
_REFUSED = 16
"""So many of what was refused are remembered; then the oldest is forgotten."""


class SpeculativeChild(Child):
    """The child that has imported ahead. Its job is delivered before it is known to fit."""

    def offer(self, header: JobHeader, job: memoryview) -> bool:
        """Send the job. Returns True if the script begins with the imports that were made."""
        sizes = header.layer_size, header.code_size, 0, 0, 0
        try:
            os.writev(self.job_w, [JOB.pack(*sizes, self.stamp_ns), job])
        except BrokenPipeError:
            return False
        answer = select.poll()
        answer.register(self.stdout_r, select.POLLIN)
        return bool(answer.poll(_ANSWER_S * 1000)) and os.read(self.stdout_r, 1) == SAYS_FITS

    def deliver(self, header: JobHeader, job: memoryview, strings: memoryview) -> None:  # noqa: ARG002
        """Let the child begin: it has its job."""
        self.begin()


class Wish:
    """What is to be imported, in memory that no plain child inherits: the layer, the statements."""

    SIZE = 2048

    def __init__(self) -> None:
        size = self.SIZE * (1 + _REFUSED)
        self._memory = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.bequeath(yes=False)
        self._view = memoryview(self._memory)
        self._next = 0

    def set(self, layer: memoryview, imports: memoryview) -> bool:
        """Set both. Returns False if there is nothing to import, or it was refused before."""
        end = _SIZES.size + len(layer) + len(imports)
        if not imports or end > self.SIZE:
            return False
        view = self._view
        _SIZES.pack_into(view, 0, len(layer), len(imports))
        view[_SIZES.size : _SIZES.size + len(layer)] = layer
        view[_SIZES.size + len(layer) : end] = imports
        view[end : self.SIZE] = bytes(self.SIZE - end)
        return not any(view[: self.SIZE] == self._slot(number) for number in range(_REFUSED))

    def refuse(self) -> None:
        """Remember that this is not to be imported any more."""
        self._slot(self._next)[:] = self._view[: self.SIZE]
        self._next = (self._next + 1) % _REFUSED

    def is_for(self, layer: memoryview) -> bool:
        """Return True if it is of this layer."""
        size, _ = _SIZES.unpack_from(self._view)
        return self._view[_SIZES.size : _SIZES.size + size] == layer

    def bequeath(self, *, yes: bool) -> None:
        """Have children that are forked from now on inherit the memory, or not."""
        self._memory.madvise(mmap.MADV_DOFORK if yes else mmap.MADV_DONTFORK)

    def take(self) -> tuple[str, list[str]]:
        """Return the layer and the statements, and forget all; in the child."""
        size, imports_size = _SIZES.unpack_from(self._view)
        text = bytes(self._view[_SIZES.size : _SIZES.size + size + imports_size])
        self._view[:] = bytes(len(self._view))
        return text[:size].decode(), text[size:].decode("ascii", "replace").split("\n")

    def _slot(self, number: int) -> memoryview:
        return self._view[(number + 1) * self.SIZE :][: self.SIZE]


class Speculation:
    """The speculative child of a container, if it has one."""

    def __init__(self, runner: Runner, config: Config) -> None:
        self._runner = runner
        # A profile has its own way to import before a run (ADR 8).
        wanted = config["reused"] and not config["preload"]
        self._memory_bytes = config["ahead_memory"] if wanted else 0
        self.child: SpeculativeChild | None = None
        self._user = 0
        self._is_ready = False
        self._start_at = 0.0
        """The time of the monotonic clock at which to fork it; 0 if it is not to be forked."""
        self._delay_s = FIRST_DELAY_S
        self._give_up_at = 0.0
        self.outcome = b""
        if self._memory_bytes:
            try:
                self._wish = Wish()
            except (OSError, AttributeError):  # this kernel cannot keep memory from forks
                self._memory_bytes = 0

    def note(self, header: JobHeader, ending: Ending) -> None:
        """Note what a run has imported of its layer, to import it again, before all is erased."""
        if not self._memory_bytes or not header.layer_size or ending is not Ending.EXITED:
            return
        begin = HEADER.size + JOB_HEADER_SIZE
        layer = self._runner.job[begin : begin + header.layer_size]
        with memoryview(self._runner.child.farewell) as page, leading.noted(page) as imports:
            if self._wish.set(layer, imports):
                self._start_at = time.monotonic() + self._delay_s

    def wait_ms(self) -> float | None:
        """Return how long PID 1 may sleep, in milliseconds; None for any time."""
        if self._start_at:
            return max(0.0, (self._start_at - time.monotonic()) * 1000)
        return _LOOK_MS if self.child and not self._is_ready else None

    def attend(self) -> bool:
        """Do what is due while no run is. Returns True in a forked child, once it has its job."""
        if self._start_at and time.monotonic() >= self._start_at:
            self._start_at = 0.0
            return self._fork()
        child = self.child
        if child is None or self._is_ready:
            return False
        memory_bytes = _memory_bytes(child.pid)
        late = time.monotonic() > self._give_up_at or memory_bytes > self._memory_bytes
        if not late and not self._has_answered(child):
            return False
        if not late and self._is_sound(child):
            self._is_ready = True
            self._look_away(child)
            self._tell(Ahead.READY, memory_bytes)
            return False
        self._wish.refuse()
        self._delay_s = min(2 * self._delay_s, _LONGEST_DELAY_S)
        self._tell(Ahead.REFUSED)
        return self._begin_anew()

    def settle(self, header: JobHeader) -> bool:
        """Choose the child of the run that has come. Returns True in a forked child.

        One of both is ended. If it was not seen to have left nothing, all is brought back first.
        """
        runner, child = self._runner, self.child
        self._start_at = 0.0
        if child is None:
            runner.reaper.aside.set(0)
            return False
        runner.oom.mark()
        if self._is_ready and self._fits(header, child):
            self.outcome, self._delay_s = _frame(Ahead.HIT), FIRST_DELAY_S
            self._set_aside(runner.child, _GONE_S)
            runner.child.close()
            runner.child, runner.user, self.child = child, self._user, None
            return False
        self.outcome = _frame(Ahead.MISS)
        self._delay_s = min(2 * self._delay_s, _LONGEST_DELAY_S)
        if not self._is_ready or header.memory_limit or header.step:
            return self._end_unready(child)
        self._set_aside(child, 0)
        self._close(child)
        return False

    def take_outcome(self) -> bytes:
        """Return the frame that tells what became of the child for this run; `b""` for none."""
        outcome, self.outcome = self.outcome, b""
        return outcome

    def _fork(self) -> bool:
        runner = self._runner
        self._user = runner.users.next()
        child = SpeculativeChild(self._user)
        child.highest = max(child.highest, runner.child.highest)
        # No generator may be on the stack of the fork: it has a finaliser, for which the exit would
        # be slow.
        self._wish.bequeath(yes=True)
        if child.fork():
            wish = self._wish.take()
            snippet.become(self._user, child)
            speculative_child.serve(child, runner.script, runner.layers, *wish)
            return True
        self._wish.bequeath(yes=False)
        self.child, self._is_ready = child, False
        runner.reaper.aside.set(child.pid)  # it may be killed for lack of memory, too
        self._give_up_at = time.monotonic() + _TIMEOUT_S
        for fd in (child.stdout_r, child.stderr_r):
            runner.intake.register(fd, select.POLLIN)
        return False

    def _fits(self, header: JobHeader, child: SpeculativeChild) -> bool:
        """Return True if the child has the run's job, and the script begins as it wants.

        Arguments, variables and files may change what an import does. The memory of the imports
        would not count for a limit of the run's own.
        """
        more = header.strings_size or header.files_size or header.memory_limit or header.step
        size = header.layer_size + header.code_size
        if more or not header.layer_size or size > _MAX_JOB_BYTES:
            return False
        begin = HEADER.size + JOB_HEADER_SIZE
        job = self._runner.job[begin : begin + size]
        if not self._wish.is_for(job[: header.layer_size]):
            return False
        if header.collect_size:
            child.stamp_ns = time.time_ns()
        try:
            os.kill(child.pid, signal.SIGCONT)
        except ProcessLookupError:  # it was killed for lack of memory
            return False
        return child.offer(header, job)

    def _has_answered(self, child: SpeculativeChild) -> bool:
        answer = select.poll()
        answer.register(child.stdout_r, select.POLLIN)
        answer.register(child.stderr_r, select.POLLIN)
        return bool(answer.poll(0))

    def _is_sound(self, child: SpeculativeChild) -> bool:
        """Stop the child. Returns False if it is not ready, or has left anything anywhere."""
        if unread_bytes(child.stdout_r) != 1 or os.read(child.stdout_r, 1) != SAYS_READY:
            return False
        # A process that is stopped leaves nothing later, whatever timers and handlers it has.
        if not _stop(child.pid):
            return False
        runner = self._runner
        return (
            not unread_bytes(child.stdout_r)
            and not unread_bytes(child.stderr_r)
            and _others() == {runner.child.pid, child.pid}
            and len(os.listdir(f"/proc/{child.pid}/task")) == 1
            and _memory_bytes(child.pid) <= self._memory_bytes
            and runner.baseline.is_restored()
        )

    def _set_aside(self, child: Child, wait_s: float) -> None:
        """End the child that is not chosen. The run waits for its end for `wait_s` seconds at most.

        One that holds much memory takes the kernel longer than a run should wait.
        """
        _end(child)
        self._runner.reaper.aside.set(0 if _reap(child.pid, wait_s) else child.pid)

    def _end_unready(self, child: SpeculativeChild) -> bool:
        """End a child that may have left something. Returns True in a forked child."""
        _end(child)
        _reap(child.pid, reset.TIMEOUT_S)
        self._close(child)
        runner = self._runner
        if _others() == {runner.child.pid} and runner.baseline.is_restored():
            return False
        return self._begin_anew()

    def _begin_anew(self) -> bool:
        """Bring the container back, and fork the next plain child. Returns True in that child."""
        runner = self._runner
        if self.child:
            self._close(self.child)
        deadline = time.monotonic() + reset.TIMEOUT_S
        runner.reaper.end(runner.child, deadline)
        runner.child.close()
        if runner.baseline.restore(deadline):
            os._exit(73)  # no run may begin here
        return runner.fork()

    def _close(self, child: SpeculativeChild) -> None:
        if not self._is_ready:
            self._look_away(child)
        self.child = None
        child.close()

    def _look_away(self, child: SpeculativeChild) -> None:
        """Wait for its streams no more: one that is killed would keep PID 1 awake by their end."""
        for fd in (child.stdout_r, child.stderr_r):
            self._runner.intake.unregister(fd)

    def _tell(self, what: Ahead, memory_bytes: int = 0) -> None:
        self._runner.outbox.send(_frame(what, memory_bytes))


def _frame(what: Ahead, memory_bytes: int = 0) -> bytes:
    return encode(Kind.AHEAD, AHEAD.pack(what, memory_bytes))


def _end(child: Child) -> None:
    """Kill a child, also one that is stopped; it need not be there any more."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(child.pid, signal.SIGKILL)


def _stop(pid: int) -> bool:
    """Stop a process. Returns False if it ends instead, or cannot be stopped."""
    deadline = time.monotonic() + _ANSWER_S
    with contextlib.suppress(ProcessLookupError, ChildProcessError):
        os.kill(pid, signal.SIGSTOP)
        while time.monotonic() < deadline:
            how = os.WSTOPPED | os.WEXITED | os.WNOHANG | os.WNOWAIT
            if (found := os.waitid(os.P_PID, pid, how)) is not None:
                return found.si_code == os.CLD_STOPPED
            time.sleep(0.0002)
    return False


def _reap(pid: int, timeout_s: float) -> bool:
    """Wait until a killed process is gone; it may be reaped already. Returns False if it is not."""
    deadline = time.monotonic() + timeout_s
    try:
        while not os.waitpid(pid, os.WNOHANG)[0]:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.0002)
    except ChildProcessError:
        pass
    return True


def _others() -> set[int]:
    """Return the processes of the container but PID 1."""
    return {int(name) for name in os.listdir("/proc") if name.isdigit()} - {1}


def _memory_bytes(pid: int) -> int:
    """Return the memory of a process but that of files; 0 if it has ended."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/statm", "rb") as file:
        _, resident, shared, *_ = map(int, file.read().split())
        return (resident - shared) * mmap.PAGESIZE
    return 0
