"""A job for a container, and how it ended: plain values without behaviour."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """The verdict on a run, as the HTTP contract spells it."""

    OK = "ok"
    ERROR = "error"
    TIMEOUT = "timeout"
    MEMORY_LIMIT = "memory_limit"
    OUTPUT_LIMIT = "output_limit"
    KILLED = "killed"


@dataclass(frozen=True, slots=True)
class Job:
    """One snippet to run.

    `timeout_s` is wall-clock time, `output_limit_bytes` bounds both streams together,
    `last` says that the container will not be used again, `layer` is the name of the layer of
    dependencies that belongs on the module path, if any.
    """

    code: bytes
    stdin: bytes = b""
    timeout_s: float = 30.0
    output_limit_bytes: int = 1 << 20
    last: bool = False
    layer: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """How a run ended and what it wrote.

    Exactly one of `exit_code` and `signal` is set. `data` is both streams in the order in
    which they arrived; `duration_s` and `cpu_s` are seconds, `peak_memory_bytes` is the
    largest resident set of the snippet's processes.
    """

    status: Status
    exit_code: int | None
    signal: int | None
    data: bytes
    stdout: bytes
    stderr: bytes
    duration_s: float
    cpu_s: float
    peak_memory_bytes: int
    truncated: bool


@dataclass(frozen=True, slots=True)
class ResetReport:
    """What the runner found when it reset itself: clean, or the reason why not."""

    clean: bool
    detail: str
