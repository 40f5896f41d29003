"""Combined output keeps the order in which one process wrote it, however busy the machine is."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from pool.job import Job
from tests.differential.twins import RESET_TIMEOUT_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.differential.twins import Twins

pytestmark = pytest.mark.asyncio(loop_scope="session")

TIMES = 50

ALTERNATIONS = """
import sys
for i in range(200):
    print("out", i)
    print("err", i, file=sys.stderr)
"""
EVERY_WAY = f"""
import logging, os, subprocess, sys
for _ in range({TIMES}):
    print("1")
    sys.stderr.write("2\\n")
    sys.stdout.write("3 without a newline")
    sys.stdout.flush()
    sys.stderr.write("4 without a newline")
    sys.stderr.flush()
    print("5")
    logging.warning("6")
    print("7", flush=True)
    subprocess.run(["echo", "8"])
    print("9", file=sys.stderr)
    sys.stdout.buffer.write(b"10\\n")
    sys.stdout.buffer.flush()
    sys.stderr.buffer.write(b"11\\n")
    sys.stderr.flush()
    print("12" * 5_000)
    print("13", file=sys.stderr)
    if os.fork() == 0:
        print("14")
        print("15", file=sys.stderr)
        os._exit(0)
    os.wait()
    print("16")
print("17")
1 / 0
"""
ONCE = (
    b"1\n2\n3 without a newline4 without a newline5\nWARNING:root:6\n7\n8\n9\n10\n11\n"
    + b"12" * 5_000
    + b"\n13\n14\n15\n16\n"
)


@contextlib.contextmanager
def busy_machine() -> Iterator[None]:
    """Keep every processor busy."""
    command = [sys.executable, "-c", "while True: pass"]
    burners = [subprocess.Popen(command) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


async def _data(twins: Twins, code: str) -> bytes:
    result = await twins.warm.run(Job(code.encode()))
    report = await twins.warm.reset(timeout_s=RESET_TIMEOUT_S)
    assert report.clean, report.detail
    return result.data


async def test_200_alternations_keep_their_order(twins: Twins) -> None:
    """Whichever stream is written, what came before on the other one is read first."""
    expected = b"".join(b"out %d\nerr %d\n" % (i, i) for i in range(200))
    with busy_machine():
        for _ in range(TIMES):
            assert await _data(twins, ALTERNATIONS) == expected


async def test_every_way_to_write_keeps_its_place(twins: Twins) -> None:
    """Text, bytes, log records, tracebacks, and what a child that was waited for wrote."""
    with busy_machine():
        data = await _data(twins, EVERY_WAY)
    begin, end = ONCE * TIMES, b"17\nTraceback (most recent call last):\n"
    assert data[: len(begin)] == begin
    assert data[len(begin) :].startswith(end)


async def test_a_stream_that_nobody_reads_does_not_hold_up_the_other(twins: Twins) -> None:
    """Only the pipe that the runner reads is waited for."""
    code = """
import os, sys, time
r, w = os.pipe()
os.dup2(w, 1)
started = time.monotonic()
for i in range(100):
    print("into a pipe of the snippet's own")
    print(i, file=sys.stderr)
print(time.monotonic() - started < 0.5, file=sys.stderr)
"""
    assert (await _data(twins, code)).endswith(b"99\nTrue\n")
