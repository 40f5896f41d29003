"""The meter of processor time, beside a real child and a file in the cgroup's place."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from pool.inside.cgroup import CpuMeter

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

WORK_S = 0.05


def test_what_a_child_has_used_before_the_mark_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that is busy may run all of a snippet before PID 1 goes on."""
    usage = tmp_path / "cpuacct.usage"
    usage.write_text("0")
    monkeypatch.setattr(CpuMeter, "FILES", (str(usage), str(usage)))
    meter = CpuMeter()
    job, done = os.pipe(), os.pipe()
    pid = os.fork()
    if not pid:
        os.close(job[1])
        while os.read(job[0], 1):
            until = time.process_time() + WORK_S
            while time.process_time() < until:
                pass
            os.write(done[1], b"d")
        os._exit(0)
    try:
        for with_job in (False, True):  # the first time is the child's warm-up
            if with_job:
                meter.begin(pid)
            os.write(job[1], b"j")
            assert os.read(done[0], 1) == b"d"
        usage.write_text(str(time.clock_gettime_ns(~pid << 3 | 2) + time.process_time_ns()))
        meter.mark(pid)
        used_s = meter.used_us(pid) / 1e6
    finally:
        for fd in (*job[::-1], *done):
            os.close(fd)
        os.waitpid(pid, 0)
    assert WORK_S * 0.9 < used_s < WORK_S * 1.5
