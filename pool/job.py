"""A job for a container, and its result: plain values without behaviour."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from pool.inside.protocol import Step

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pool.shown import Showing


class Status(StrEnum):
    """How a run ended, in the words of the HTTP contract."""

    OK = "ok"
    ERROR = "error"
    TIMEOUT = "timeout"
    MEMORY_LIMIT = "memory_limit"
    OUTPUT_LIMIT = "output_limit"
    CPU_TIME = "cpu_time"
    KILLED = "killed"


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file for a run: its path in the code's directory, with `/` between its parts, and content.

    No part may be empty, `.` or `..`; directories are made.
    """

    name: str
    content: bytes | bytearray


@dataclass(frozen=True, slots=True)
class OutputFile:
    """A file that a run has left; `content` is `None` if it was not read, `omitted` says why."""

    name: str
    size_bytes: int
    content: bytes | bytearray | None
    omitted: str = ""


@dataclass(frozen=True, slots=True)
class Job:
    """One snippet to run.

    `timeout_s` is wall-clock time. `output_limit_bytes` bounds both streams together. If `last` is
    true, the container is not used again. `layer` is the name of the layer of dependencies to put
    on the module path, or `""`. `args` are the snippet's `sys.argv[1:]`, `env` are variables to add
    to its environment; neither may hold a NUL. `cpu_time_s` bounds the processor time of all of its
    processes together, `memory_limit_bytes` their memory and what they write to files; `None` is no
    bound but the container's. `files` are written before the run. `collect` are patterns of the
    files to return, at most `collect_max`, with contents of at most `collect_limit_bytes` together.
    `step` is for `PooledSession` to set; `shown_limit_bytes` bounds the rich forms of a cell.
    """

    code: bytes
    stdin: bytes = b""
    timeout_s: float = 30.0
    output_limit_bytes: int = 1 << 20
    last: bool = False
    layer: str = ""
    args: Sequence[bytes] = ()
    env: Mapping[bytes, bytes] = field(default_factory=dict)
    cpu_time_s: float | None = None
    memory_limit_bytes: int | None = None
    files: Sequence[InputFile] = ()
    collect: Sequence[str] = ()
    collect_limit_bytes: int = 16 << 20
    collect_max: int = 100
    step: Step = Step.RUN
    shown_limit_bytes: int = 16 << 20


@dataclass(frozen=True, slots=True)
class Result:
    """The end of a run, and its output.

    Exactly one of `exit_code` and `signal` is set. `data` is the output of both streams, in the
    order of arrival, characters whole: `turns[0]` bytes of stdout, then `turns[1]` of stderr, then
    of stdout again. `duration_s` and `cpu_s` are seconds. `peak_memory_bytes` is the largest
    resident set of one of the snippet's processes. `oom_killed` is true if one of them was killed
    for lack of memory. `exception` is the class of the exception that ended the script, or `""`.
    `files` are those that the job asked for, sorted by name; `files_omitted` says why there are
    more, or is `""`. `shown` is what a cell of a session has shown; `None` for every other run.
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
    turns: Sequence[int] = ()
    oom_killed: bool = False
    exception: str = ""
    files: Sequence[OutputFile] = ()
    files_omitted: str = ""
    shown: Showing | None = None


@dataclass(frozen=True, slots=True)
class ResetReport:
    """The runner's report on a reset. If it is not `clean`, `detail` is the reason."""

    clean: bool
    detail: str
