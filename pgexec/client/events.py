"""The events of a run that is going on, read from the bytes of a stream.

https://html.spec.whatwg.org/multipage/server-sent-events.html, as far as pgexec uses it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from pgexec.client.errors import RunLost
from pgexec.client.result import CompletedRun, ReturnedFile
from pgexec.client.wire import failure

if TYPE_CHECKING:
    from collections.abc import Iterator

Kind = Literal["queue", "install", "stdout", "stderr", "file", "result"]


@dataclass(frozen=True, slots=True)
class RunEvent:
    """One event of a run; which fields it has depends on its kind.

    - `queue`: `position`, 1 for the next run
    - `install`: `text`, a line of the installer
    - `stdout`, `stderr`: `text`, a piece of output
    - `file`: `file`
    - `result`: `result`, with the files that came before; always the last one
    """

    kind: Kind
    text: str = ""
    position: int = 0
    file: ReturnedFile | None = None
    result: CompletedRun | None = None


class EventReader:
    """Turns the bytes of a stream into events."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._seen = 0
        self._name = ""
        self._data = ""
        self._files: dict[str, ReturnedFile] = {}
        self._ended = False

    def feed(self, data: bytes) -> Iterator[RunEvent]:
        """Yield the events that are complete with `data`; raise the `PgexecError` of an error."""
        self._buffer += data
        while (end := self._buffer.find(b"\n", self._seen)) >= 0:
            line = self._buffer[:end].decode()
            del self._buffer[: end + 1]
            self._seen = 0
            name, _, value = line.partition(": ")
            if name == "event":
                self._name = value
            elif name == "data":
                self._data = value
            elif not line and self._name:
                if (event := self._event(self._name, json.loads(self._data))) is not None:
                    yield event
                self._name = ""
        self._seen = len(self._buffer)  # a result of megabytes is searched once

    def end(self) -> None:
        """Raise `RunLost` if the stream ended before its last event."""
        if not self._ended:
            raise RunLost("the stream of events was cut off before the result", code="cut")

    def _event(self, name: str, document: dict[str, Any]) -> RunEvent | None:
        match name:
            case "error":
                status = document["status"]
                raise failure(status, document, document.get("retry_after_s", 0))
            case "result":
                self._ended = True
                return RunEvent("result", result=CompletedRun.of(document, self._files))
            case "file":
                file = self._files[document["name"]] = ReturnedFile.of(document)
                return RunEvent("file", file=file)
            case "queue":
                return RunEvent("queue", position=document["position"])
            case "install":
                return RunEvent("install", text=document["line"])
            case "stdout" | "stderr":
                return RunEvent(cast("Kind", name), text=document["text"])
            case _:
                return None  # of a newer server
