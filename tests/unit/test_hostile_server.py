"""The real runner, spoken to by a server that makes no sense: it ends, whatever it is told."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from pool.inside.protocol import HEADER, JOB_HEADER_SIZE, JobHeader, Kind, encode, encode_job
from tests.unit.pythons import Python, interpreters
from tests.unit.test_runner_versions import DEADLINE_S, Runner, can_unshare

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

pytestmark = pytest.mark.skipif(not can_unshare(), reason="namespaces need root on Linux")

JOB_LIMIT = 1 << 20
ENDS = {0, 70, 71, 72}
"""Its stdin has ended; a JOB is malformed; its child has died; what came is no JOB."""
EXAMPLES = 25
PYTHON = next(iter(interpreters()), Python("", sys.executable))


def job(code: bytes = b"print(1)", stdin: bytes = b"") -> bytes:
    header = JobHeader(1, 5_000, 1 << 16, len(code), len(stdin), last=False)
    return encode_job(header, b"", code, stdin)


def lie(sizes: tuple[int, int, bool, int], rest: bytes) -> bytes:
    """Return a JOB whose sizes are those of something else."""
    honest = encode_job(JobHeader(1, 1, 1, *sizes), b"", b"", b"")
    return encode(Kind.JOB, honest[HEADER.size :] + rest)


u32 = st.integers(0, 2**32 - 1)
lies = st.one_of(
    st.binary(max_size=60),
    st.builds(encode, st.sampled_from(Kind), st.binary(max_size=60)),
    st.builds(HEADER.pack, st.just(int(Kind.JOB)), u32),
    st.builds(lie, st.tuples(u32, u32, st.booleans(), st.integers(0, 255)), st.binary(max_size=60)),
    st.just(job() * 2),
    st.just(job()[:-1]),
    st.just(job() + b"\x01"),
)


@contextlib.contextmanager
def fresh_runner() -> Iterator[Runner]:
    directory = Path(tempfile.mkdtemp(prefix="pgexec-runner-"))
    try:
        yield Runner(PYTHON, directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def tell(runner: Runner, pieces: Sequence[bytes]) -> None:
    assert runner.process.stdin
    with contextlib.suppress(BrokenPipeError):
        for piece in pieces:
            runner.process.stdin.write(piece)
            runner.process.stdin.flush()


def ended(runner: Runner) -> int:
    """Close its stdin, and return its status; it must come by itself."""
    with contextlib.suppress(BrokenPipeError):
        return runner.close()
    return runner.process.wait(DEADLINE_S)


@pytest.mark.slow
@settings(max_examples=EXAMPLES, deadline=None)
@given(st.lists(lies, max_size=3))
def test_any_bytes_end_it_at_the_latest_with_its_stdin(pieces: list[bytes]) -> None:
    with fresh_runner() as runner:
        tell(runner, pieces)
        status = ended(runner)
        event(f"exit status {status}")
        assert status in ENDS


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 72),
        (encode(Kind.READY, b"{}"), 72),
        (HEADER.pack(Kind.JOB, 2**32 - 1), 72),
        (HEADER.pack(Kind.JOB, JOB_LIMIT), 72),
        (HEADER.pack(Kind.JOB, 3), 72),
        (job() * 2, 72),
        (encode(Kind.JOB, b"\xff" * JOB_HEADER_SIZE), 70),
    ],
    ids=["http", "ready", "4 GiB", "no room", "too short", "two jobs", "sizes that lie"],
)
def test_what_is_no_job_ends_it_at_once(said: bytes, status: int) -> None:
    with fresh_runner() as runner:
        tell(runner, [said])
        try:
            assert runner.process.wait(DEADLINE_S) == status  # its stdin is still open
        finally:
            ended(runner)


@pytest.mark.parametrize("said", [b"\0", job(), b"x" * 100_000], ids=["a byte", "a job", "much"])
def test_whatever_is_said_during_a_run_ends_it_and_the_run(said: bytes) -> None:
    with fresh_runner() as runner:
        tell(runner, [job(b"import time\nprint('began', flush=True)\ntime.sleep(60)")])
        assert runner._next() == (Kind.STDOUT, b"began\n")
        began = time.monotonic()
        tell(runner, [said])
        try:
            assert runner.process.wait(DEADLINE_S) == 0
            assert time.monotonic() - began < DEADLINE_S
        finally:
            ended(runner)


def test_a_job_that_comes_byte_by_byte_is_one() -> None:
    with fresh_runner() as runner:
        tell(runner, [bytes([byte]) for byte in job(b"print(6 * 7)")])
        assert runner._next() == (Kind.STDOUT, b"42\n")
        assert ended(runner) == 0


def test_half_a_job_and_then_nothing_is_waited_for() -> None:
    with fresh_runner() as runner:
        tell(runner, [job()[:-1]])
        with pytest.raises(subprocess.TimeoutExpired):
            runner.process.wait(0.5)
        assert ended(runner) == 0
