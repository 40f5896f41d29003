"""The sentence of an answer: it names the exception, and what killed a process, in one line."""

from __future__ import annotations

from typing import Any

import pytest

from pgexec.contract import RunRequest
from pgexec.http.answers import describe
from pgexec.http.limits import RequestLimits
from pgexec.settings import Settings
from pool.job import Status
from pool.shown import Showing
from tests.unit.http.rig import make_result

TRACE = b'Traceback (most recent call last):\n  File "/home/code/Main.py", line 1, in <module>\n'
GROUP = b"  | ExceptionGroup: two (2 sub-exceptions)\n  +-+---- 1 ----\n    | ValueError: x\n"
LIMITS = RequestLimits.of(Settings()).of_run(RunRequest(language="python", code="1"))


def said(**changes: Any) -> str | None:
    return describe(make_result(**changes), LIMITS)


def of(exception: str, stderr: bytes, exit_code: int = 1) -> str | None:
    return said(status=Status.ERROR, exit_code=exit_code, exception=exception, stderr=stderr)


@pytest.mark.parametrize(
    ("exception", "stderr", "sentence"),
    [
        ("EOFError", TRACE + b"EOFError: EOF when reading\n", "EOFError: EOF when reading"),
        ("KeyError", TRACE + b"KeyError: 'k'\nIt had a note\n", "KeyError: 'k'"),
        ("AssertionError", TRACE + b"AssertionError\n", "AssertionError"),
        ("ValueError", TRACE + b"ValueError: one\ntwo\n", "ValueError: one"),
        ("ValueError", b"ValueError: first\n" + TRACE + b"ValueError: last\n", "ValueError: last"),
        ("a.b.Odd", TRACE + b"a.b.Odd: no\n", "a.b.Odd: no"),
        ("ExceptionGroup", GROUP, "ExceptionGroup: two (2 sub-exceptions)"),
        ("ValueError", b"", "ValueError"),
        ("ValueError", b"something else\n", "ValueError"),
        ("ValueError", b"ValueErrors: no\n", "ValueError"),
        ("ValueError", b"ValueError: \x1b[31m\x00\xff\n", "ValueError: \ufffd[31m\ufffd\ufffd"),
        ("ValueError", b"ValueError: " + b"x" * 100_000, "ValueError"),
        ("ValueError", b"ValueError: " + b"x" * 1000, "ValueError: " + "x" * 287 + "…"),
        ("", b"ValueError: printed by the snippet itself\n", "exit status 1"),
    ],
)  # fmt: skip
def test_an_exception_is_named_as_the_interpreter_prints_it(
    exception: str, stderr: bytes, sentence: str
) -> None:
    assert of(exception, stderr) == sentence


def test_another_exit_status_is_not_the_exceptions() -> None:
    assert of("ValueError", b"ValueError: x\n", exit_code=3) == "exit status 3"


@pytest.mark.parametrize(
    ("status", "begin"),
    [
        (Status.TIMEOUT, "timed out after 30 s"),
        (Status.OUTPUT_LIMIT, "output over the limit of 1 MiB"),
        (Status.CPU_TIME, "processor time over the limit of 30 s"),
    ],
)
def test_a_process_that_was_killed_for_memory_is_told_of(status: Status, begin: str) -> None:
    killed = {"status": status, "exit_code": None, "signal": 9}
    assert said(**killed) == begin
    assert said(**killed, oom_killed=True) == (
        f"{begin}; one of its processes was out of memory (limit 256 MiB)"
    )


def test_a_bus_error_has_a_hint() -> None:
    assert said(status=Status.KILLED, exit_code=None, signal=7) == (
        "killed by signal 7 (SIGBUS): a mapped file was cut, or its directory is full "
        "(64 MiB each, /dev/shm too)"
    )


def test_a_cell_that_has_cut_off_its_interpreter_is_told_so() -> None:
    killed = {"status": Status.KILLED, "exit_code": None, "signal": 9}
    assert said(**killed) == "killed by signal 9 (SIGKILL)"
    assert said(**killed, shown=Showing()) == (
        "killed by signal 9 (SIGKILL): the cell has killed its interpreter, or closed the "
        "descriptors by which this is reached"
    )
