"""The answer to a run that ended: its sentence and its JSON document."""

from __future__ import annotations

import codecs
import signal
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from pydantic_core import to_json

from pgexec.settings.sizes import format_size
from pool.job import Status

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pgexec.http.limits import RunLimits
    from pool.job import Result

UNCAUGHT: Final = 1
"""The exit status of an interpreter after an exception that nothing has caught."""
MANY_TURNS: Final = 5_000
"""From so many on, the decoding of streams that are no UTF-8 takes milliseconds, up to a second for
a million: it belongs in a thread, or all other requests would wait."""
_SEARCHED_BYTES: Final = 16 << 10
_SHOWN_CHARS: Final = 300
LONG_BYTES = 8 << 10
"""An answer with more output than this is sent in parts."""


def render_result(result: Result, error: str | None) -> tuple[bytes, ...]:
    """Return the JSON body of a 200 in UTF-8, in parts; bytes that are no UTF-8 become U+FFFD.

    A body of more than `LONG_BYTES` of output has many parts. If `data` and a stream are the same
    text, two parts are the same object.
    """
    try:
        stdout, stderr = result.stdout.decode(), result.stderr.decode()
        data = result.data.decode() if stdout and stderr else stdout or stderr
    except UnicodeDecodeError:
        stdout = result.stdout.decode("utf-8", "replace")
        stderr = result.stderr.decode("utf-8", "replace")
        data = _in_turns(result)
    fields = {
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
    if len(result.data) <= LONG_BYTES:
        return (to_json(fields),)
    return tuple(_in_parts(fields))


def _in_parts(fields: Mapping[str, object]) -> Iterator[bytes]:
    """Yield an object's JSON with a part for each value; equal texts become one part, used twice.

    Example: for 1 MiB of control characters, of six bytes each in JSON, this saves 6 MiB.
    """
    texts: dict[str, bytes] = {}
    separator = b"{"
    for name, value in fields.items():
        yield separator + to_json(name) + b":"
        if isinstance(value, str):
            if value not in texts:
                texts[value] = to_json(value)
            yield texts[value]
        else:
            yield to_json(value)
        separator = b","
    yield b"}"


def without_output(result: Result) -> Result:
    """Return a result without its output, which may be large."""
    if len(result.data) <= LONG_BYTES and not result.files:
        return result
    return replace(result, data=b"", stdout=b"", stderr=b"", turns=(), files=())


def _in_turns(result: Result) -> str:
    """Decode each stream by itself, and join the texts in their order, as a stream of events does.

    Otherwise half a character of one stream could become a whole one with bytes of the other.
    """
    if not result.turns:
        return result.data.decode("utf-8", "replace")
    make = codecs.getincrementaldecoder("utf-8")
    decoders = make("replace"), make("replace")
    texts, at = [], 0
    for turn, size in enumerate(result.turns):
        texts.append(decoders[turn % 2].decode(result.data[at : at + size]))
        at += size
    return "".join(texts) + "".join(decoder.decode(b"", final=True) for decoder in decoders)


def describe(result: Result, limits: RunLimits) -> str | None:
    """Say in one sentence how a run ended; `None` when it exited with 0."""
    memory = format_size(limits.memory_limit_bytes)
    killed = (
        f"; one of its processes was out of memory (limit {memory})" if result.oom_killed else ""
    )
    match result.status:
        case Status.OK:
            sentence = None
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
            if result.signal == signal.SIGBUS:
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
