"""The child as PID 1 knows it: its process id, its pipes, how it ended, and how to kill it.

Runs inside the container: standard library only, any CPython since 3.8.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import select
import signal
import struct
import termios
import time
from typing import Iterable

from pool.inside import reset
from pool.inside.protocol import MAX_NAME_BYTES, JobHeader

JOB = struct.Struct("!BIIIQQ")
"""The head of a job on its pipe: the sizes in bytes of the layer's name, of the code and of the
strings, how many of these are arguments, the size of the input files (`JobHeader`), and the
stamp by which unchanged files are known. If there are files, the child writes `WRITTEN` or
`NO_ROOM` to its stdout when it has them, and begins the script when PID 1 closes the pipe."""
WRITTEN, NO_ROOM = b"\0", b"\1"

FAREWELL = struct.Struct("=iiQ")
"""The last words of a child: 1, its exit status, and its largest resident set in KiB."""

NAME = struct.Struct("=I")
"""Follows the last words, if the script died of an exception: the size of its class' name, which is
next."""

_BELIEVED_KIB = 32 << 10
"""A child may say that it has had so much memory; for more, the kernel is asked."""

NO_LAYER = 2
"""The first word, in place of 1, of a child whose layer of dependencies is not there."""

_COUNT = struct.Struct("i")
_REAPED_AT_ONCE = 256


class Child:
    """A forked process and the four pipes to it: job, stdin, stdout, stderr.

    `user` is the id that the process is going to have.
    """

    def __init__(self, user: int = 0) -> None:
        self.pid = 0
        self.exited: int | None = None
        """The wait status, as the child or the kernel has told it."""
        self.peak_kib = 0
        """The largest resident set of all processes that have ended, as far as it is known."""
        self.stamp_ns = 0
        self.reaped = False
        """True once the kernel has told; the child may have told earlier (`hear_last_words`)."""
        self.farewell = mmap.mmap(-1, mmap.PAGESIZE)
        self._open_job()
        self._open_streams()
        try:
            for fd in (self.stdin_r, self.stdout_w, self.stderr_w):
                os.fchmod(fd, 0o666)  # so that the snippet can open /dev/stdin and its kin
        except PermissionError:
            # gVisor's pipes keep the mode 0600: there the snippet's user must have made them.
            _close((self.stdin_r, self.stdin_w, self.stdout_r, self.stdout_w))
            _close((self.stderr_r, self.stderr_w))
            os.seteuid(user)
            self._open_streams()
            os.seteuid(0)
        for fd in (self.stdin_w, self.stdout_r, self.stderr_r):
            os.set_blocking(fd, False)
        self._ours = {self.job_w, self.stdin_w, self.stdout_r, self.stderr_r}
        theirs = {self.job_r, self.stdin_r, self.stdout_w, self.stderr_w}
        self.highest = max(self._ours | theirs)
        """The highest descriptor in use. The runner's own are older, and their numbers lower."""

    def _open_job(self) -> None:
        self.job_r, self.job_w = os.pipe()

    def _open_streams(self) -> None:
        self.stdin_r, self.stdin_w = os.pipe()
        self.stdout_r, self.stdout_w = os.pipe()
        self.stderr_r, self.stderr_w = os.pipe()

    def fork(self) -> bool:
        """Fork; True in the child. PID 1 keeps only its own ends of the pipes."""
        self.pid = os.fork()
        if self.pid == 0:
            return True
        # If PID 1 held a writing end of stdout or stderr, it would never see the pipe's end.
        _close((self.job_r, self.stdin_r, self.stdout_w, self.stderr_w))
        return False

    def can_be_killed(self) -> bool:
        """Return True if this process may signal the child, which each reset must do.

        AppArmor does not look at signal 0: it takes a real one, which the child ignores.
        """
        try:
            os.kill(self.pid, signal.SIGURG)
        except PermissionError:
            return False
        return True

    def deliver(self, header: JobHeader, job: memoryview, strings: memoryview) -> None:
        """Send the job: the layer's name and the code, then the strings.

        Raises nothing if the child has died. The relay notices that death by SIGCHLD. If there are
        input files, `pour` has to send them, and `begin` must follow.
        """
        sizes = header.layer_size, header.code_size, header.strings_size, header.args
        head = JOB.pack(*sizes, header.files_size, self.stamp_ns)
        try:
            written = os.writev(self.job_w, [head, job]) - len(head)
            while written < len(job):
                written += os.write(self.job_w, job[written:])
        except BrokenPipeError:
            pass
        self.pour(strings)
        if not header.files_size:
            self.begin()

    def pour(self, data: memoryview) -> None:
        """Send more of the job. Raises nothing if the child has died."""
        with contextlib.suppress(BrokenPipeError):
            while data:
                data = data[os.write(self.job_w, data) :]

    def begin(self) -> None:
        """Let the child begin the script."""
        self._close_ours(self.job_w)

    def has_written(self, host_in: int) -> bool:
        """Wait until the child has its input files. Returns False if it has no room for them.

        True if the child has died: the relay will notice. Ends the process if the server has gone,
        which `host_in` shows.
        """
        waiting = select.poll()
        waiting.register(self.stdout_r, select.POLLIN)
        waiting.register(host_in, select.POLLIN)
        if host_in in dict(waiting.poll()):
            os._exit(0)
        return os.read(self.stdout_r, 1) != NO_ROOM

    def close_stdin(self) -> None:
        """Let the snippet see the end of its stdin."""
        self._close_ours(self.stdin_w)

    def hear_last_words(self) -> None:
        """Set `exited` if the child has written its last words.

        A child that ends writes them to a page that it shares with PID 1, and then closes its
        streams. PID 1 answers the server at once: the kernel needs longer to dismantle a small
        process than the process needed to run. Example: `print(1)` ends 0.5 ms earlier.

        A snippet may write to this page, too. It can only lie about its own end, and PID 1 then
        kills it. It can make its memory too small, but not too large: if the child itself has not
        had as much as it says, its children may have, and the kernel tells that once it has ended.
        """
        said, status, peak_kib = FAREWELL.unpack_from(self.farewell)
        if said and (peak_kib <= _BELIEVED_KIB or peak_kib <= self._most_kib()):
            self.peak_kib = max(self.peak_kib, peak_kib)
            self.exited = (status & 0xFF) << 8

    def _most_kib(self) -> int:
        """Return the largest resident set of the living child, as the kernel has it."""
        with contextlib.suppress(OSError), open(f"/proc/{self.pid}/status", "rb") as status:
            for line in status:
                if line.startswith(b"VmHWM:"):
                    return int(line.split()[1])
        return 0

    def exception_name(self) -> memoryview:
        """Return the child's name for the exception that ended the script; empty if there is none.

        It stays in the shared page: it must not become an object of PID 1, because the next child
        is a copy of PID 1. Release it before `close`.
        """
        (size,) = NAME.unpack_from(self.farewell, FAREWELL.size)
        begin = FAREWELL.size + NAME.size
        return memoryview(self.farewell)[begin : begin + min(size, MAX_NAME_BYTES)]

    def misses_its_layer(self) -> bool:
        """Return True if the child says that its layer was missing, so that no snippet ran.

        A snippet can feign this. PID 1 therefore looks for the layer before it believes it.
        """
        return bool(FAREWELL.unpack_from(self.farewell)[0] == NO_LAYER)

    def close(self) -> None:
        """Close the ends that PID 1 still has open."""
        self.farewell.close()
        _close(self._ours)
        self._ours.clear()

    def _close_ours(self, fd: int) -> None:
        self._ours.remove(fd)
        os.close(fd)


def unread_bytes(fd: int) -> int:
    """Return how many bytes a pipe holds."""
    return int(_COUNT.unpack(fcntl.ioctl(fd, termios.FIONREAD, bytes(_COUNT.size)))[0])


class Reaper:
    """Notices the end of processes: each SIGCHLD writes a byte to the pipe `wake`, for `poll`."""

    def __init__(self) -> None:
        self.wake, self._wake_writer = os.pipe()
        self._ends = select.poll()
        self._ends.register(self.wake, select.POLLIN)

    def listen(self) -> None:
        """Let each SIGCHLD write a byte to the pipe.

        Call this after all imports. An import may set a handler of its own; PID 1 would then not
        notice that a run has ended, and sleep until the run's deadline.
        """
        for fd in (self.wake, self._wake_writer):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(self._wake_writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)

    def reap(self, child: Child) -> None:
        """Collect every process that has ended. If `child` is one of them, set its `exited`."""
        # Read the pipe first, then wait: a process that ends after the last wait leaves a byte for
        # the next poll. In the other order this byte could be lost, and the end not noticed.
        with contextlib.suppress(BlockingIOError):
            os.read(self.wake, 4096)
        try:
            # Bounded: orphans that end as fast as PID 1 collects them would keep it here for ever.
            for _ in range(_REAPED_AT_ONCE):
                pid, status, usage = os.wait4(-1, os.WNOHANG)
                if pid == 0:
                    return
                child.peak_kib = max(child.peak_kib, usage.ru_maxrss)
                if pid == child.pid:
                    child.reaped = True
                    child.exited = status
        except ChildProcessError:
            return
        with contextlib.suppress(BlockingIOError):  # a full pipe wakes the next poll as well
            os.write(self._wake_writer, b"\0")

    def end(self, child: Child, deadline: float) -> None:
        """Kill every other process of the container and wait until the child has ended.

        `deadline` is a time of the monotonic clock, in seconds. After it, the child may still run
        (`reaped` is then False).
        """
        reset.kill_all()
        while not child.reaped and time.monotonic() < deadline:
            self._ends.poll(100)
            self.reap(child)


def _close(fds: Iterable[int]) -> None:
    for fd in fds:
        os.close(fd)
