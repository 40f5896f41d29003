"""What PID 1 knows of the child that waits for a job: its pid, its pipes, its end, its kills.

Runs inside the container: standard library only, any CPython since 3.8.
"""

from __future__ import annotations

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

JOB = struct.Struct("!BI")
"""What precedes a job on its pipe: the sizes of the layer's name and of the code."""

FAREWELL = struct.Struct("=iiQQ")
"""What a child says just before it ends: that it does, its exit status, the microseconds of
processor time that it took, and its largest resident set in KiB."""

_BELIEVED = 1 << 40
"""What is said beyond that many microseconds (twelve days) or KiB (a PiB) is taken for that."""

NO_LAYER = 2
"""Said in place of that a child ends, by one whose layer of dependencies is not there."""

_COUNT = struct.Struct("i")


class Child:
    """A forked process and the four pipes to it: job, stdin, stdout, stderr."""

    def __init__(self) -> None:
        self.pid = 0
        self.exited: tuple[int, float, int] | None = None
        """Wait status, CPU seconds and peak bytes, once the child or the kernel has told them."""
        self.reaped = False
        """Whether the kernel has told; a child may have told before (`hear_last_words`)."""
        self.farewell = mmap.mmap(-1, mmap.PAGESIZE)
        self.job_r, self.job_w = os.pipe()
        self.stdin_r, self.stdin_w = os.pipe()
        self.stdout_r, self.stdout_w = os.pipe()
        self.stderr_r, self.stderr_w = os.pipe()
        for fd in (self.stdin_r, self.stdout_w, self.stderr_w):
            os.fchmod(fd, 0o666)  # so that the snippet can open /dev/stdin and its kin
        for fd in (self.stdin_w, self.stdout_r, self.stderr_r):
            os.set_blocking(fd, False)
        self._ours = {self.job_w, self.stdin_w, self.stdout_r, self.stderr_r}
        theirs = {self.job_r, self.stdin_r, self.stdout_w, self.stderr_w}
        self.highest = max(self._ours | theirs)
        """The highest descriptor in use: those of the runner itself are older, and lower."""

    def fork(self) -> bool:
        """Fork; True in the child. The parent keeps only its own ends of the pipes."""
        self.pid = os.fork()
        if self.pid == 0:
            return True
        _close((self.job_r, self.stdin_r, self.stdout_w, self.stderr_w))
        return False

    def deliver(self, layer_size: int, job: memoryview) -> None:
        """Send the job, which is the layer's name and the code.

        A child that has died is noticed elsewhere.
        """
        head = JOB.pack(layer_size, len(job) - layer_size)
        try:
            written = os.writev(self.job_w, [head, job]) - len(head)
            while written < len(job):
                written += os.write(self.job_w, job[written:])
        except BrokenPipeError:
            pass
        self._close_ours(self.job_w)

    def close_stdin(self) -> None:
        """Let the snippet see the end of its stdin."""
        self._close_ours(self.stdin_w)

    def hear_last_words(self) -> None:
        """Set `exited` where the child has said how it is about to end.

        It closes its streams and says so in a page of shared memory, because the kernel takes
        longer to dismantle its memory than the snippet took to run. A snippet that writes there
        lies about itself alone, and is killed for it.
        """
        said, status, cpu_us, peak_kib = FAREWELL.unpack_from(self.farewell)
        if said:
            # A larger lie would not fit into the EXIT frame.
            cpu_us, peak_kib = min(cpu_us, _BELIEVED), min(peak_kib, _BELIEVED)
            self.exited = (status & 0xFF) << 8, cpu_us / 1e6, peak_kib * 1024

    def misses_its_layer(self) -> bool:
        """Whether the child ended because its layer is not there, and before its snippet began.

        A snippet that says so itself is believed by nobody but its own server, which looks.
        """
        return bool(FAREWELL.unpack_from(self.farewell)[0] == NO_LAYER)

    def close(self) -> None:
        """Close what is still open of our ends."""
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
    """Notices that processes have ended: each end writes a byte to a pipe, which ends a poll."""

    def __init__(self) -> None:
        self.wake, self._wake_writer = os.pipe()
        self._ends = select.poll()
        self._ends.register(self.wake, select.POLLIN)

    def listen(self) -> None:
        """Have the kernel's SIGCHLD write to the pipe.

        Must come after all imports: one of them may have set a handler of its own, and PID 1
        would then sleep through the end of each run until its time is up.
        """
        for fd in (self.wake, self._wake_writer):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(self._wake_writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)

    def reap(self, child: Child) -> None:
        """Collect every process that has ended; note it when it was the child."""
        # The pipe first: a process that ends after the last wait then leaves a byte for the next
        # poll. In the other order that byte would be lost, and the end not noticed.
        try:
            while os.read(self.wake, 4096):
                pass
        except BlockingIOError:
            pass
        try:
            while True:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
                if pid == 0:
                    return
                if pid == child.pid:
                    child.reaped = True
                    cpu_s = usage.ru_utime + usage.ru_stime
                    child.exited = (status, cpu_s, usage.ru_maxrss * 1024)
        except ChildProcessError:
            pass

    def end(self, child: Child, deadline: float) -> None:
        """Kill every other process of the container and wait for the child's end.

        `deadline`, of the monotonic clock in seconds, bounds the wait.
        """
        reset.kill_all()
        while not child.reaped and time.monotonic() < deadline:
            self._ends.poll(100)
            self.reap(child)


class OomCounter:
    """The out-of-memory kills in the container's own cgroup, version 2 or 1, if it shows any."""

    FILES = ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control")

    def __init__(self) -> None:
        self._fd: int | None = None
        self._marked = 0
        for path in self.FILES:
            try:
                self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                break
            except OSError:
                continue

    def mark(self) -> None:
        """Remember the count from which `risen` counts."""
        self._marked = self._count()

    def risen(self) -> bool:
        """Whether something was killed for want of memory since the mark."""
        return self._count() > self._marked

    def _count(self) -> int:
        if self._fd is not None:
            for line in os.pread(self._fd, 4096, 0).splitlines():
                if line.startswith(b"oom_kill "):
                    return int(line.split()[1])
        return 0


def _close(fds: Iterable[int]) -> None:
    for fd in fds:
        os.close(fd)
