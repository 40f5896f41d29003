"""The answer to a run that ended: its sentence and its JSON document."""

from __future__ import annotations

import signal
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

from pydantic_core import to_json

from pgexec.http.texts import decoded, decoded_in_turns, json_text
from pgexec.settings.sizes import format_size
from pool.job import Status
from pool.turns import rounds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgexec.http.delivery import Document
    from pgexec.http.limits import RunLimits
    from pgexec.http.texts import JsonText
    from pool.job import Result

UNCAUGHT: Final = 1
"""The exit status of an interpreter after an exception that nothing has caught."""
_SEARCHED_BYTES: Final = 16 << 10
_SHOWN_CHARS: Final = 300
LONG_BYTES = 8 << 10
"""An answer with more output than this is made and sent in pieces."""


def render_result(result: Result, error: str | None) -> bytes:
    """Return the JSON body of a 200 in UTF-8; bytes that are no UTF-8 become U+FFFD."""
    try:
        stdout, stderr = result.stdout.decode(), result.stderr.decode()
        data = result.data.decode() if stdout and stderr else stdout or stderr
    except UnicodeDecodeError:
        stdout = result.stdout.decode("utf-8", "replace")
        stderr = result.stderr.decode("utf-8", "replace")
        data = _in_turns(result)
    return to_json(
        {
            "data": data,
            "error": error,
            "status": result.status,
            "stdout": stdout,
            "stderr": stderr,
            "exit_code": result.exit_code,
            "signal": result.signal,
            "duration_s": result.duration_s,
            "cpu_s": result.cpu_s,
            "peak_memory_bytes": result.peak_memory_bytes,
            "truncated": result.truncated,
        }
    )


async def render_long(result: Result, error: str | None) -> Document:
    """Return what `render_result` does, in parts, without blocking the loop.

    If `data` and a stream are the same text, their parts are the same objects.
    """
    async with rounds().rendering:
        try:
            stdout, stderr, data = await _texts(result, "strict")
        except UnicodeDecodeError:
            stdout, stderr, data = await _texts(result, "replace")
    before, between, after = _around(result, error)
    return (before, *data, between, *stdout, b',"stderr":', *stderr, after)


def _around(result: Result, error: str | None) -> tuple[bytes, bytes, bytes]:
    """Return what stands in the JSON before `data`, before `stdout`, and behind `stderr`."""
    empty = replace(result, data=b"", stdout=b"", stderr=b"")
    before, _, rest = render_result(empty, error).partition(b'""')
    between, _, after = rest.partition(b'"","stderr":""')
    return before, between, after


async def _texts(result: Result, errors: str) -> list[Sequence[bytes | JsonText]]:
    """Return the JSON of `stdout`, `stderr` and `data`. Raises `UnicodeDecodeError` if strict."""
    texts = [
        await json_text(partial(decoded, stream, errors), len(stream))
        for stream in (result.stdout, result.stderr)
    ]
    for stream, text in zip((result.stdout, result.stderr), texts, strict=True):
        if stream == result.data:
            return [*texts, text]
    in_turns = errors == "replace" and result.turns
    make = (
        partial(decoded_in_turns, result.data, result.turns)
        if in_turns
        else partial(decoded, result.data, errors)
    )
    return [*texts, await json_text(make, len(result.data))]


def size_bytes(result: Result) -> int:
    """Return the bytes of a result's output and files in memory."""
    outputs = {id(data): len(data) for data in (result.data, result.stdout, result.stderr)}
    return sum(outputs.values()) + sum(len(file.content or b"") for file in result.files)


def without_output(result: Result) -> Result:
    """Return a result without its output, which may be large."""
    if len(result.data) <= LONG_BYTES and not result.files:
        return result
    return replace(result, data=b"", stdout=b"", stderr=b"", turns=(), files=())


def _in_turns(result: Result) -> str:
    if not result.turns:
        return result.data.decode("utf-8", "replace")
    return "".join(decoded_in_turns(result.data, result.turns))


def describe(result: Result, limits: RunLimits) -> str | None:
    """Say in one sentence how a run ended; `None` when it exited with 0."""
    if result.status is Status.OK:
        return None
    memory = format_size(limits.memory_limit_bytes)
    killed = (
        f"; one of its processes was out of memory (limit {memory})" if result.oom_killed else ""
    )
    match result.status:
        case Status.ERROR:
            named = result.exception and result.exit_code == UNCAUGHT
            sentence = _exception(result) if named else f"exit status {result.exit_code}"
        case Status.TIMEOUT:
            sentence = f"timed out after {limits.timeout_s:g} s{killed}"
        case Status.MEMORY_LIMIT:
            sentence = f"out of memory (limit {memory})"
        case Status.OUTPUT_LIMIT:
            sentence = f"output over the limit of {format_size(limits.output_limit_bytes)}{killed}"
        case Status.CPU_TIME:
            sentence = f"processor time over the limit of {limits.cpu_time_s:g} s{killed}"
        case Status.KILLED:
            hint = ""
            if result.shown is not None and result.signal == signal.SIGKILL:
                hint = (
                    ": the cell has killed its interpreter, or closed the descriptors by which "
                    "this is reached"
                )
            elif result.signal == signal.SIGBUS:
                size = format_size(limits.disk_limit_bytes)
                hint = (
                    f": a mapped file was cut, or its directory is full ({size} each, /dev/shm too)"
                )
            sentence = f"killed by signal {result.signal}{_signal_name(result.signal)}{hint}"
    return sentence


def _exception(result: Result) -> str:
    """Return the interpreter's line about the exception, or else only its class.

    It is the last line of stderr that begins with the class. A snippet may print such a line
    itself: it can only lie about its own end.
    """
    name = result.exception
    end = result.stderr[-_SEARCHED_BYTES:].decode("utf-8", "replace")
    for line in reversed(end.splitlines()):
        found = line.lstrip(" |")  # lines of an exception group begin with these
        if found.startswith(f"{name}: "):
            shown = "".join(char if char.isprintable() else "\ufffd" for char in found)
            return shown if len(shown) <= _SHOWN_CHARS else shown[: _SHOWN_CHARS - 1] + "…"
        if found == name:
            break
    return name


def _signal_name(number: int | None) -> str:
    try:
        return f" ({signal.Signals(number or 0).name})"
    except ValueError:
        return ""
