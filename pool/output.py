"""The output of one run so far: both streams together, and each alone, in whole characters."""

from __future__ import annotations

import codecs
import re
from array import array
from typing import TYPE_CHECKING

from pool.inside.protocol import Ending, Exit, Kind
from pool.job import Result, Status

if TYPE_CHECKING:
    from collections.abc import Callable

    OnOutput = Callable[[Kind, bytes], None]

_LONGEST = 4
"""The most bytes that a character has in UTF-8."""
_NAME = re.compile(r"[\w.<>]+")
"""The name of a class, also of one in a function: `module.function.<locals>.Class`."""
_NOT_ASCII, _ASCII_OR_FIRST, _CONTINUES = 0x80, 0xC0, 0x80
"""A byte continues a character if `byte & _ASCII_OR_FIRST` is `_CONTINUES`."""


class Output:
    """Collects the pieces of both streams in the order in which they came.

    A piece may end within a character of UTF-8. Its last bytes then wait for the rest of the
    character: otherwise a piece of the other stream could come between them, and the text of both
    streams together would have replacement characters where each stream alone has none.
    """

    def __init__(self) -> None:
        self._data = bytearray()
        self._alone = {Kind.STDOUT: bytearray(), Kind.STDERR: bytearray()}
        self._begun = {Kind.STDOUT: b"", Kind.STDERR: b""}
        self._newest = Kind.STDOUT
        self._turns = array("I", [0])  # bytes of stdout, then of stderr, of stdout again, …

    def add(self, kind: Kind, payload: bytes) -> None:
        """Add a piece of the stream `kind`."""
        if begun := self._begun[kind]:
            payload = begun + payload
        end = end_of_characters(payload)
        self._begun[kind] = payload[end:]
        if end:
            self._keep(kind, payload[:end])

    def _keep(self, kind: Kind, piece: bytes) -> None:
        if kind is self._newest:
            self._turns[-1] += len(piece)
        else:
            self._newest = kind
            self._turns.append(len(piece))
        self._data += piece
        self._alone[kind] += piece

    def result(self, ending: Exit) -> Result:
        """Return the result of the run that ended as `ending`.

        Half a character that the output limit has cut is dropped. Half a character that the snippet
        itself has written stays, and comes last.
        """
        if not ending.truncated:
            for kind, begun in self._begun.items():
                if begun:
                    self._keep(kind, begun)
        stdout, stderr = bytes(self._alone[Kind.STDOUT]), bytes(self._alone[Kind.STDERR])
        return Result(
            status=_status(ending),
            exit_code=ending.status if ending.status >= 0 else None,
            signal=-ending.status if ending.status < 0 else None,
            # One copy for both, where only one stream has something to say.
            data=bytes(self._data) if stdout and stderr else stdout or stderr,
            stdout=stdout,
            stderr=stderr,
            duration_s=ending.duration_us / 1e6,
            cpu_s=ending.cpu_us / 1e6,
            peak_memory_bytes=ending.peak_memory_bytes,
            truncated=ending.truncated,
            turns=self._turns,
            oom_killed=ending.oom_killed,
            exception=_class_name(ending.exception),
        )


class HeardOutput(Output):
    """Output that also calls `on_output` with each piece; a piece ends with a whole character."""

    def __init__(self, on_output: OnOutput) -> None:
        super().__init__()
        self._on_output = on_output

    def _keep(self, kind: Kind, piece: bytes) -> None:
        super()._keep(kind, piece)
        self._on_output(kind, piece)


def end_of_characters(data: bytes) -> int:
    r"""Return the size of `data` without a character at its end that has only begun.

    Example: 1 for `b"a\xe2\x82"`, two bytes of a euro sign; 2 for `b"a\xff"`, which begins none.
    """
    size = len(data)
    if size and data[-1] < _NOT_ASCII:
        return size
    for start in range(size - 1, max(-1, size - _LONGEST), -1):
        if data[start] & _ASCII_OR_FIRST != _CONTINUES:
            _, decoded = codecs.utf_8_decode(data[start:], "replace", False)  # noqa: FBT003
            return size if decoded else start
    return size


def _class_name(said: bytes) -> str:
    """Return the name of a class that a child has said, if it can be one."""
    if not said:
        return ""
    name = said.decode("utf-8", "replace")
    return name if _NAME.fullmatch(name) else ""


def _status(ending: Exit) -> Status:
    match ending.ending:
        case Ending.EXITED:
            return Status.OK if ending.status == 0 else Status.ERROR
        case Ending.SIGNALED:
            return Status.KILLED
        case Ending.TIMEOUT:
            return Status.TIMEOUT
        case Ending.OUTPUT_LIMIT:
            return Status.OUTPUT_LIMIT
        case Ending.MEMORY_LIMIT:
            return Status.MEMORY_LIMIT
        case Ending.CPU_TIME:
            return Status.CPU_TIME
        case Ending.NO_LAYER | Ending.NO_ROOM | Ending.NOT_WRITTEN | Ending.NO_PROCESS:
            raise RuntimeError("nothing ran")
