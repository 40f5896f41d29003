"""Bring the container back to its baseline, and prove that it is there.

Runs inside the container, in PID 1: standard library only, any CPython since 3.8.
"""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import time

TIMEOUT_S = 4.0
SETTLE_S = 0.2
"""The kernel may free what a dead process held a little after its end: descriptors that were in
flight between two sockets, for one."""


def kill_all() -> None:
    """Kill every process that this one, as PID 1 and root, can see."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)


class Baseline:
    """What the container looked like before it ran anything."""

    def __init__(self, mounts: list[str]) -> None:
        self._mounts = mounts
        for mount in mounts:
            # runc gives a tmpfs the mode of what it covers
            os.chmod(mount, 0o1777)  # noqa: S103 - as /tmp has it
            _wipe(mount, time.monotonic() + TIMEOUT_S)
        try:
            self._protocols = os.open("/proc/net/protocols", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:  # gVisor may have none
            self._protocols = -1
        self._state = self._measure()

    def restore(self, deadline: float) -> str:
        """Kill, reap, wipe and compare; return `""`, or what differs from the baseline.

        `deadline`, of the monotonic clock in seconds, is for the reaping and the wiping.
        """
        try:
            if not _reap_all(deadline):
                return "a process survived"
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
        names = ["descriptors", "sockets", *self._mounts]
        for name, before, after in zip(names, self._state, state):
            if before != after:
                return f"{name}: {after} where {before} was"
        return ""

    def _measure(self) -> list[tuple[int, ...]]:
        """Count descriptors, sockets, and each mount's free blocks and inodes; note its owner."""
        state: list[tuple[int, ...]] = [(len(os.listdir("/proc/self/fd")),), self._count_sockets()]
        for mount in self._mounts:
            free, root = os.statvfs(mount), os.stat(mount)
            state.append((free.f_bfree, free.f_ffree, root.st_mode, root.st_uid, root.st_gid))
        return state

    def _count_sockets(self) -> tuple[int, ...]:
        """Count the sockets of the network namespace that may be there without a process.

        Those are Unix sockets in flight between each other, which the kernel collects when it
        comes to it, with whatever else is in flight there, and TCP connections whose far end
        does not take what was sent. Others may be the engine's, which asks for names here.
        """
        if self._protocols < 0:
            return ()
        lines = os.pread(self._protocols, 1 << 14, 0).splitlines()
        kept = [line.split(None, 3)[2] for line in lines if line.startswith((b"UNIX", b"TCP"))]
        return (sum(map(int, kept)),)


def _reap_all(deadline: float) -> bool:
    """Kill and wait until the kernel says that there is no child left."""
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
    """Empty a directory without following a link, whatever its depth, modes and names.

    Directories below the first level are moved up to it before they are emptied in turn:
    no path grows longer than two names, no descriptor stays open, nothing recurses.
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
    """Remove a file or an empty directory; False for a directory that is not empty."""
    if not stat.S_ISDIR(os.lstat(path).st_mode):
        os.unlink(path)
        return True
    try:
        os.rmdir(path)
    except OSError:
        return False
    return True
