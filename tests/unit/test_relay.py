"""PID 1's side of the pipes, without PID 1: what it does when others take what was counted."""

from __future__ import annotations

import os
import time
from resource import RUSAGE_CHILDREN, getrusage

import pytest

from pool.inside import relay
from pool.inside.child import Child, Reaper, unread_bytes
from pool.inside.outbox import AREA_BYTES, Outbox
from pool.inside.protocol import Ending, JobHeader, Kind

HEADER = JobHeader(1, 1000, 1 << 20, 0, 0, last=False)


def close(child: Child) -> None:
    for fd in (child.job_r, child.stdin_r, child.stdout_w, child.stderr_w):
        os.close(fd)
    child.close()


def test_bytes_that_are_stolen_after_they_were_counted_are_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    child = Child()
    tries = 0

    class Robbed(Outbox):
        def read(self, kind: Kind, fd: int, limit: int) -> int:
            nonlocal tries
            tries += 1
            assert tries < 10, "it waits for bytes that are gone"
            return super().read(kind, fd, limit)

    def count_and_steal(fd: int) -> int:
        counted = unread_bytes(fd)
        if counted:
            os.read(fd, counted // 2)
        return counted

    outbox = Robbed(memoryview(bytearray(AREA_BYTES)))
    moved = relay.Relay(child, outbox, Reaper(), HEADER, memoryview(b""))
    monkeypatch.setattr(relay, "unread_bytes", count_and_steal)
    os.write(child.stdout_w, b"x" * 1000)
    child.exited = 0
    assert moved.until(time.monotonic() + 1) is Ending.EXITED
    assert outbox.used == 500
    close(child)


def test_orphans_that_end_as_fast_as_they_are_collected_do_not_keep_the_reaper(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    child, reaper = Child(), Reaper()
    for fd in (reaper.wake, reaper._wake_writer):
        os.set_blocking(fd, False)
    collected = 0

    def another(_pid: int, _options: int) -> tuple[int, int, object]:
        nonlocal collected
        collected += 1
        assert collected < 10_000, "it never comes back"
        return (4242, 0, getrusage(RUSAGE_CHILDREN))

    monkeypatch.setattr(os, "wait4", another)
    reaper.reap(child)
    assert os.read(reaper.wake, 10)  # the next poll comes back to it
    close(child)
    for fd in (reaper.wake, reaper._wake_writer):
        os.close(fd)


@pytest.mark.parametrize(
    ("wait_status", "ending"),
    [(0, Ending.EXITED), (11, Ending.EXITED), (9, Ending.TIMEOUT), (None, Ending.TIMEOUT)],
)
def test_what_ends_by_itself_just_then_has_not_timed_out(
    monkeypatch: pytest.MonkeyPatch, wait_status: int | None, ending: Ending
) -> None:
    child, reaper = Child(), Reaper()

    def end(_reaper: Reaper, child: Child, _deadline: float) -> None:
        child.exited = wait_status

    monkeypatch.setattr(Reaper, "end", end)
    outbox = Outbox(memoryview(bytearray(AREA_BYTES)))
    moved = relay.Relay(child, outbox, reaper, HEADER, memoryview(b""))
    assert moved.until(time.monotonic()) is ending
    close(child)
    for fd in (reaper.wake, reaper._wake_writer):
        os.close(fd)
