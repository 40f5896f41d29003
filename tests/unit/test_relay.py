"""PID 1's side of the pipes, without PID 1: what it does when others take what was counted."""

from __future__ import annotations

import os
import time
from resource import RUSAGE_CHILDREN, getrusage
from typing import TYPE_CHECKING

import pytest

from pool.inside import relay
from pool.inside.allowance import Allowance
from pool.inside.cgroup import CpuMeter, MemoryMeter
from pool.inside.child import Child, Reaper, unread_bytes
from pool.inside.outbox import AREA_BYTES, Outbox
from pool.inside.protocol import Ending, JobHeader, Kind

if TYPE_CHECKING:
    from pathlib import Path

HEADER = JobHeader(1, 1000, 1 << 20, 0, 0, last=False)
METERS = CpuMeter(), MemoryMeter()
UNBOUND = Allowance(HEADER, METERS, 1, 0, 0)


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
    moved = relay.Relay(child, outbox, Reaper(), HEADER, memoryview(b""), UNBOUND)
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
    moved = relay.Relay(child, outbox, reaper, HEADER, memoryview(b""), UNBOUND)
    assert moved.until(time.monotonic()) is ending
    close(child)
    for fd in (reaper.wake, reaper._wake_writer):
        os.close(fd)


class Meter(CpuMeter):
    """Has used what the test says."""

    def __init__(self, *used_s: float) -> None:
        self.used_s = list(used_s)

    def used_us(self, pid: int | None) -> int:
        return round(self.used_s.pop(0) * 1e6)


def test_processor_time_is_looked_at_only_when_it_can_have_run_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On four processors of which the run may use two: 4 s last for 1.9 s at least."""
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    meter = Meter(1.0, 3.9, 3.99, 4.0)
    allowance = Allowance(HEADER._replace(cpu_ms=4000), (meter, METERS[1]), 2, 0, 100.0)
    looks = [allowance.next_at]
    while allowance.used_up(allowance.next_at) is None:
        looks.append(allowance.next_at)
    assert looks == pytest.approx([101.9, 103.3, 103.325, 103.3275])
    assert meter.used_s == []


class Scales(MemoryMeter):
    """Has what the test says, in GiB."""

    def __init__(self, *used: float) -> None:
        self.used = list(used)

    def used_bytes(self) -> int:
        return round(self.used.pop(0) * (1 << 30))


def test_memory_is_looked_at_only_when_it_can_be_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    scales = Scales(-0.5, 0.8, 0.999, 1.0, 1.001)
    header = HEADER._replace(memory_limit=1 << 30)
    allowance = Allowance(header, (METERS[0], scales), 1, 0, 100.0)
    looks = [allowance.next_at]
    while (ending := allowance.used_up(allowance.next_at)) is None:
        looks.append(allowance.next_at)
    assert ending is Ending.MEMORY_LIMIT
    assert looks == pytest.approx([100.25, 100.625, 100.675, 100.677, 100.679])


@pytest.mark.parametrize(
    ("usage", "stat"),
    [
        (b"9000\n", b"anon 1000\nfile 5000\nkernel 9\nfile_mapped 1\nshmem 2000\n"),
        (b"9000\n", b"cache 1\nshmem 1\ntotal_cache 5000\ntotal_rss 7\ntotal_shmem 2000\n"),
    ],
)
def test_pages_of_files_on_disk_are_no_memory_of_the_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, usage: bytes, stat: bytes
) -> None:
    files = tmp_path / "usage", tmp_path / "stat"
    files[0].write_bytes(b"100\n")
    files[1].write_bytes(b"anon 1\n")
    monkeypatch.setattr(MemoryMeter, "FILES", [("/nowhere", "/nowhere"), tuple(map(str, files))])
    meter = MemoryMeter()
    meter.mark()
    assert meter.used_bytes() == 0
    files[0].write_bytes(usage)
    files[1].write_bytes(stat)
    assert meter.used_bytes() == 9000 - 3000 - 100
    monkeypatch.setattr(MemoryMeter, "FILES", [])
    blind = MemoryMeter()
    blind.mark()
    assert blind.used_bytes() == 0


def test_a_run_without_such_a_limit_is_never_looked_at() -> None:
    assert UNBOUND.next_at == float("inf")


@pytest.mark.parametrize(("wait_status", "ending"), [(0, Ending.EXITED), (9, Ending.CPU_TIME)])
def test_what_ends_just_before_its_processor_time_is_over_has_ended(
    monkeypatch: pytest.MonkeyPatch, wait_status: int, ending: Ending
) -> None:
    child, reaper = Child(), Reaper()

    def end(_reaper: Reaper, child: Child, _deadline: float) -> None:
        child.exited = wait_status

    monkeypatch.setattr(Reaper, "end", end)
    outbox = Outbox(memoryview(bytearray(AREA_BYTES)))
    header = HEADER._replace(cpu_ms=5)
    allowance = Allowance(header, (Meter(0.006), METERS[1]), 1, 0, time.monotonic() - 1)
    moved = relay.Relay(child, outbox, reaper, header, memoryview(b""), allowance)
    assert moved.until(time.monotonic() + 10) is ending
    close(child)
    for fd in (reaper.wake, reaper._wake_writer):
        os.close(fd)
