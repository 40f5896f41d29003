"""Bring the container back to its baseline, and prove that it is there.

Runs inside the container, in PID 1: standard library only, any CPython since 3.8.
"""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import time

from pool.inside.kernel import is_gvisor
from pool.inside.traces import Connections, Traces

TIMEOUT_S = 4.0
SETTLE_S = 0.2
"""Wait so many seconds for the kernel: it may free the resources of a dead process a little after
its end, for example descriptors that were in flight between two sockets."""


def kill_all() -> None:
    """Kill every process of the container but the caller, which must be PID 1 and root."""
    try:
        os.kill(-1, signal.SIGKILL)
    except ProcessLookupError:
        pass
    except PermissionError:
        # AppArmor may refuse one of them, and the kernel then tells of that one only.
        _kill_each()


def _kill_each() -> None:
    """Kill the processes one by one; one that cannot be killed shows when it is not reaped."""
    for name in os.listdir("/proc"):
        if name.isdigit() and name != "1":
            with contextlib.suppress(OSError):
                os.kill(int(name), signal.SIGKILL)


class Standing:
    """The priority and the processors of PID 1, which every child inherits.

    In gVisor anybody may set both, of every process; it heeds neither, but shows them.
    """

    def __init__(self) -> None:
        self._priority = os.getpriority(os.PRIO_PROCESS, 0)
        self._processors = os.sched_getaffinity(0)

    def restore(self) -> None:
        """Set both to what they were."""
        os.setpriority(os.PRIO_PROCESS, 0, self._priority)
        os.sched_setaffinity(0, self._processors)


class Baseline:
    """The state of the container before its first run, and the way back to it."""

    def __init__(self, mounts: list[str]) -> None:
        self._mounts = mounts
        for mount in mounts:
            # runc gives a tmpfs the mode of the directory that it covers.
            os.chmod(mount, 0o1777)  # noqa: S103 - as /tmp has it
            _wipe(mount, time.monotonic() + TIMEOUT_S)
        self._standing = Standing() if is_gvisor() else None
        # gVisor counts none in the first file; in the second each line is a socket.
        table = "unix" if self._standing else "protocols"
        try:
            self._sockets = os.open(f"/proc/net/{table}", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:  # gVisor without a network may have neither
            self._sockets = -1
        self._traces = Traces()
        self._connections = Connections()
        self._state = self._measure()

    def restore(self, deadline: float) -> str:
        """Kill, reap, wipe and compare. Returns `""`, or what differs from the baseline.

        `deadline`, a time of the monotonic clock in seconds, is for the reaping and the wiping.
        Never raises `OSError`: its text is the result then.
        """
        try:
            # In this order: a process that still ran could write a file after the wipe, for the
            # next run to find.
            if not reap_all(deadline):
                return "a process survived"
            if self._standing:
                self._standing.restore()
            for mount in self._mounts:
                if not _wipe(mount, deadline):
                    return f"wiping {mount} took over {TIMEOUT_S:g} s"
            state = self._measure()
            settled_by = time.monotonic() + SETTLE_S
            while state != self._state and time.monotonic() < settled_by:
                time.sleep(0.001)
                state = self._measure()
        except OSError as error:
            return f"{error.strerror}: {error.filename!r}"
        names = ["descriptors", "sockets", "flow labels and neighbours", "TCP segments received"]
        names += self._mounts
        for name, before, after in zip(names, self._state, state):
            if before != after:
                return f"{name}: {after} where {before} was"
        return ""

    def _measure(self) -> list[tuple[int, ...]]:
        """Count descriptors, sockets, traces, each mount's free blocks and inodes; its owner."""
        state: list[tuple[int, ...]] = [
            (len(os.listdir("/proc/self/fd")),),
            self._count_sockets(),
            self._traces.count(),
            self._connections.count(),
        ]
        for mount in self._mounts:
            free, root = os.statvfs(mount), os.stat(mount)
            state.append((free.f_bfree, free.f_ffree, root.st_mode, root.st_uid, root.st_gid))
        return state

    def _count_sockets(self) -> tuple[int, ...]:
        """Count the sockets of the network namespace that can exist without a process.

        There are two kinds. Unix sockets can be in flight between each other; the kernel frees
        them, with the descriptors that they carry, some time later. A TCP connection lives on
        while its far end does not take the data. Other kinds are not counted: they may belong to
        the engine, which resolves names in this namespace.
        """
        if self._sockets < 0:
            return ()
        lines = os.pread(self._sockets, 1 << 14, 0).splitlines()
        if self._standing:
            return (len(lines),)
        kept = [line.split(None, 3)[2] for line in lines if line.startswith((b"UNIX", b"TCP"))]
        return (sum(map(int, kept)),)


def reap_all(deadline: float) -> bool:
    """Kill and reap until no process is left. Returns False if `deadline` comes first.

    A process whose parent ends becomes a child of PID 1. So "no child left" proves that nothing
    of the run is left, however it forked.
    """
    while time.monotonic() < deadline:
        kill_all()
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return True
        time.sleep(0.0002)
    return False


def _wipe(mount: str, deadline: float) -> bool:
    """Empty the directory `mount` without following a link, whatever its depth, modes and names.

    Returns False if `deadline` comes first. A directory below the first level is moved up to the
    first level, and emptied there later. So no path has more than two names, no descriptor stays
    open, and nothing recurses. Example: of `a/b/c/d`, `a/b` becomes `<token>.1` and `a` is removed;
    in the next round, `<token>.1/c` becomes `<token>.2`.
    """
    root = os.fsencode(mount)
    token = os.urandom(8).hex().encode()
    moved = 0
    while True:
        names = os.listdir(root)
        if not names:
            return True
        for name in names:
            if time.monotonic() > deadline:
                return False
            path = os.path.join(root, name)
            if not _unlink(path):
                for inner in os.listdir(path):
                    nested = os.path.join(path, inner)
                    if not _unlink(nested):
                        moved += 1
                        os.rename(nested, os.path.join(root, b"%s.%d" % (token, moved)))
                os.rmdir(path)


def _unlink(path: bytes) -> bool:
    """Remove a file or an empty directory. Returns False if the directory is not empty."""
    if not stat.S_ISDIR(os.lstat(path).st_mode):
        os.unlink(path)
        return True
    try:
        os.rmdir(path)
    except OSError:
        return False
    return True
