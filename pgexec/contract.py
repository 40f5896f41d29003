"""The wire contract: the models of requests and of answers.

A new field of `POST /run` begins here; `http/parsing.py` holds it against the server's limits.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, GetPydanticSchema
from pydantic_core import core_schema

from pool.job import Status

MAX_DEPENDENCIES = 64
MAX_REQUIREMENT_CHARS = 256
MAX_USER_CHARS = 128
MAX_ARGUMENTS = MAX_VARIABLES = 500
MAX_PATTERNS = 64
Seconds = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]


def _whole(number: object) -> object:
    """Take 2.0 for 2, as JSON Schema does."""
    return int(number) if isinstance(number, float) and number.is_integer() else number


Whole = Annotated[int, BeforeValidator(_whole)]


# --- POST /run ---


class GivenFile(BaseModel):
    """A file that a request brings. Once it is parsed, `content` is the bytes of the file."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: Annotated[
        str,
        Field(
            description="Its path relative to the code's directory, with / between the parts; not "
            "empty, absolute or climbing. Directories are made."
        ),
    ]
    content: Annotated[
        str | bytes | bytearray,
        GetPydanticSchema(lambda _source, _handler: core_schema.str_schema(strict=True)),
        Field(description="Its text, or its bytes in base64."),
    ]
    encoding: Annotated[
        Literal["utf8", "base64"], Field(description="What the content is written in.")
    ] = "utf8"

    @property
    def data(self) -> bytes | bytearray:
        """The bytes of the file. Raises `TypeError` before it is parsed."""
        if isinstance(self.content, str):
            raise TypeError("the content is not decoded yet")
        return self.content


class RunRequest(BaseModel):
    """The body of `POST /run`; `parse_run` also holds it against the server's limits."""

    # Lists have factories: pydantic makes a deep copy of any other default, for each request.

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)

    language: Annotated[
        str, Field(description="The language of the code, or another name of it, in any case.")
    ]
    code: Annotated[str, Field(description="The snippet; not blank, and without NUL.")]
    dependencies: Annotated[
        list[str],
        Field(
            max_length=MAX_DEPENDENCIES,
            description="Requirements to install before the run: names with extras, versions and "
            "markers; no options, addresses or files.",
        ),
    ] = Field(default_factory=list, json_schema_extra={"default": []})
    stdin: Annotated[str, Field(description="The text of the snippet's standard input.")] = ""
    stdins: Annotated[
        list[str] | None,
        Field(
            description="Texts of standard input: the code runs once for each, and the answer has "
            "the results in this order. Not together with stdin."
        ),
    ] = None
    expected: Annotated[
        list[str] | None,
        Field(description="What each run should write to stdout: as many texts as stdins has."),
    ] = None
    compare: Annotated[
        Literal["exact", "ignore_trailing_space"],
        Field(
            description="How stdout is compared with what is expected: byte for byte, or without "
            "white space at the end of each line and empty lines at the end. Only with expected."
        ),
    ] = "exact"
    stop_on: Annotated[
        Literal["first_failure"] | None,
        Field(
            description="What ends a request with stdins early: the first run, in their order, "
            "whose status is not ok or whose stdout is not what is expected. Only with stdins."
        ),
    ] = None
    timeout_s: Annotated[
        float | None,
        Field(description="How many seconds the snippet may take; the server's limit by default."),
    ] = None
    fresh: Annotated[
        bool,
        Field(description="Whether to use a container that nobody has used, and destroy it then."),
    ] = False
    files: Annotated[
        list[GivenFile],
        Field(description="Files to write into the code's directory before the run."),
    ] = Field(default_factory=list, json_schema_extra={"default": []})
    args: Annotated[
        list[str],
        Field(
            max_length=MAX_ARGUMENTS,
            description="The snippet's arguments, sys.argv[1:]; without NUL.",
        ),
    ] = Field(default_factory=list, json_schema_extra={"default": []})
    env: Annotated[
        dict[str, str],
        Field(
            max_length=MAX_VARIABLES,
            description="Variables to add to the environment of the snippet and of the programs "
            "that it starts.",
        ),
    ] = Field(default_factory=dict, json_schema_extra={"default": {}})
    output_limit_bytes: Annotated[
        Whole | None,
        Field(description="How much the snippet may write; the server's limit by default."),
    ] = None
    collect: Annotated[
        list[str],
        Field(
            max_length=MAX_PATTERNS,
            description="Patterns of files to return, relative to the code's directory: *, ? and "
            "[abc] within a name, ** for any directories.",
        ),
    ] = Field(default_factory=list, json_schema_extra={"default": []})
    memory_limit_bytes: Annotated[
        Whole | None,
        Field(
            description="How much memory the snippet and its children may take together, with what "
            "they write to files; the language's limit by default."
        ),
    ] = None
    cpu_time_s: Annotated[
        float | None,
        Field(
            description="How many seconds of processor time the snippet and its children may use "
            "together; no limit by default but that of timeout_s and the processors."
        ),
    ] = None
    user: Annotated[
        str | None,
        Field(
            description="On whose behalf the run is, in the words of the client; only with a key "
            "that PGEXEC_TRUSTED_KEYS names. Each user is a tenant of his own."
        ),
    ] = None


class CollectedFile(BaseModel):
    """A file that the run has made or changed, and the request has asked for."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Annotated[str, Field(description="Its path; bytes that are no UTF-8 as \\xff.")]
    size_bytes: Count
    content: Annotated[
        str, Field(description="Not there in a stream's result, nor where omitted is.")
    ] = ""
    encoding: Annotated[
        Literal["utf8", "base64"], Field(description="What the content is written in.")
    ] = "utf8"
    omitted: Annotated[str, Field(description="Why there is no content.")] = ""


class RunResult(BaseModel):
    """How a snippet ended and what it wrote; the answer to `POST /run` whatever it did."""

    model_config = ConfigDict(extra="forbid", strict=True)

    data: Annotated[str, Field(description="stdout and stderr together, in their order.")]
    error: Annotated[
        str | None,
        Field(
            description="How it ended in one line: its exception, status, signal or limit; null "
            "when it exited with 0."
        ),
    ]
    status: Status
    stdout: str
    stderr: str
    exit_code: Annotated[int | None, Field(description="null when a signal ended it.")]
    signal: Annotated[int | None, Field(description="The signal that ended it, or null.")]
    duration_s: Annotated[float, Field(ge=0)]
    cpu_s: Annotated[float, Field(ge=0)]
    peak_memory_bytes: Annotated[int, Field(ge=0)]
    truncated: Annotated[bool, Field(description="Whether the limit on output was reached.")]
    files: Annotated[
        list[CollectedFile],
        Field(description="Sorted by name; only there where the request has collect."),
    ] = []
    files_omitted: Annotated[
        str, Field(description="Why some files are not in the list; only there where some are not.")
    ] = ""


class BatchRunResult(RunResult):
    """The run of one of many inputs."""

    matches: Annotated[
        bool, Field(description="Whether stdout is what was expected; only there with expected.")
    ] = False
    index: Annotated[
        int, Field(ge=0, description="Which of stdins it is, from 0; only there in a stream.")
    ] = 0


class Refusal(BaseModel):
    """Every answer other than 200."""

    model_config = ConfigDict(extra="forbid", strict=True)

    data: None
    error: Annotated[str, Field(description="What is wrong, in a sentence.")]
    code: Annotated[str, Field(pattern="^[a-z0-9_]+$", description="The same for machines.")]
    reason: Annotated[
        str, Field(description="Why a session has ended; only there with session_ended.")
    ] = ""


class StreamRefusal(Refusal):
    """An error that came after the stream had begun; its last event."""

    status: Annotated[int, Field(description="The HTTP status that it would have had.")]
    retry_after_s: Annotated[int, Field(description="What Retry-After would have said.")] = 0


class BatchRefusal(Refusal):
    """One of many inputs that has no result, and why."""

    status: Annotated[
        Literal["refused", "lost", "stopped"],
        Field(
            description="refused: nothing ran. lost: it may have run. stopped: an input before it "
            "failed, and stop_on asked for that."
        ),
    ]
    http_status: Annotated[
        int, Field(description="What a request for it alone would have got; 0 if stopped.")
    ]
    retry_after_s: Annotated[int, Field(description="What Retry-After would have said.")] = 0
    index: Annotated[
        int, Field(ge=0, description="Which of stdins it is, from 0; only there in a stream.")
    ] = 0


class BatchEnd(BaseModel):
    """The last event of many inputs."""

    model_config = ConfigDict(extra="forbid", strict=True)

    passed: Annotated[
        int, Field(ge=0, description="How many runs are ok, and as expected if that was asked.")
    ]
    first_failure: Annotated[
        int | None, Field(ge=0, description="The first that did not pass, from 0; null if all did.")
    ]


class BatchResult(BatchEnd):
    """The answer to `POST /run` with stdins."""

    results: Annotated[
        list[BatchRunResult | BatchRefusal],
        Field(description="One for each input, in their order."),
    ]


class QueuePlace(BaseModel):
    """The run waits for a container."""

    position: Annotated[int, Field(ge=1, description="1 for who is next.")]


class InstallerLine(BaseModel):
    """A line of the installer's."""

    line: str


class OutputText(BaseModel):
    """A piece of the snippet's output."""

    text: str
