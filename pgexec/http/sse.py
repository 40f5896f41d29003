"""A run as a stream of server-sent events: the wait, the output as it comes, then the result.

The run never waits for its client. The server keeps the events that the client has not read yet:
the last place in the queue, the last lines of the installer, and all output, which
`PGEXEC_OUTPUT_LIMIT` bounds, as does the budget for all answers. A client that takes nothing at all
for `STALL_S` is disconnected.
"""

from __future__ import annotations

import asyncio
import codecs
from collections import deque
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from aiohttp import HttpVersion11, web
from pydantic_core import to_json

from pgexec.http.delivery import CHUNK_BYTES, abort, cut, held_bytes
from pgexec.http.record import GONE, RECORD, SENDER
from pool.inside.protocol import Kind
from pool.turns import turn

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from pgexec.http.answering import Event
    from pgexec.http.budget import Budget, Held

KEEPALIVE_S: Final = 15.0
"""After so many silent seconds a comment is sent: proxies close connections that are silent."""
STALL_S: Final = 60.0
"""A client that takes none of the sent bytes for so many seconds is disconnected."""
TEXT_BYTES: Final = 16 << 10
"""An event has at most so many bytes of output."""
MAX_LINES: Final = 1000
MAX_LINE_CHARS: Final = 4096
MAX_TOLD_BYTES: Final = 256 << 10
EVENT_STREAM: Final = "text/event-stream"
STREAM_HEADERS: Final = {
    "Content-Type": EVENT_STREAM,
    "Server": "pgexec",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",
}
_KEEPALIVE = b": keep-alive\n\n"
_BEGIN = b":\n\n"
_NAMES: Final = {Kind.STDOUT: b"stdout", Kind.STDERR: b"stderr"}


@lru_cache(maxsize=64)
def wants_events(accept: str) -> bool:
    """Return True if an `Accept` header names event streams, and prefers JSON no more than these.

    A wildcard does not ask for a stream: most clients send one by default. Example:
    `text/event-stream, application/json;q=0.9` asks for a stream, `*/*` does not.
    """
    streams, json = 0.0, (-1, 0.0)
    for item in accept.lower().split(","):
        name, *parameters = (part.strip() for part in item.split(";"))
        quality = _quality(parameters)
        if name == EVENT_STREAM:
            streams = quality
        elif name in _JSON_RANGES:
            json = max(json, (_JSON_RANGES[name], quality))  # the most specific range counts
    return streams > 0 and streams >= json[1]


_JSON_RANGES: Final = {"*/*": 0, "application/*": 1, "application/json": 2}


def _quality(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                quality = float(value)
            except ValueError:
                return 0.0
            return quality if 0 <= quality <= 1 else 0.0
    return 1.0


async def answer_with_events(
    request: web.Request,
    run: Callable[[EventStream], Awaitable[Sequence[Event]]],
    budget: Budget,
) -> web.StreamResponse:
    """Await `run`, send its progress as events, and at the end the events that it returns.

    The events that are still to be sent count in `budget`. An error before the first event is
    raised as it is; a later error is the last event.
    """
    with budget.hold(request[RECORD].holder, lambda: abort(request)) as held:
        stream = EventStream(request, held)
        try:
            try:
                stream.finish(*await run(stream))
            except Exception as error:
                if not stream.begun:
                    raise
                problem = request[RECORD].fail(error)
                request[RECORD].status = problem.status
                stream.finish((b"error", (problem.event(),)))
            await stream.sent()
        finally:
            stream.close()
    return stream.response


class EventStream:
    """One answer as a stream of events; the `Progress` of its run.

    The first call of one of its methods begins the stream. A task of its own then writes it.
    """

    def __init__(self, request: web.Request, held: Held) -> None:
        self.response = web.StreamResponse(headers=STREAM_HEADERS)
        if request.version < HttpVersion11:
            self.response.force_close()  # in HTTP/1.0, only this tells the end of the stream
        self._request = request
        self._held = held
        self._unsent = Unsent()
        self._wake = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None

    @property
    def begun(self) -> bool:
        """True if the client has got something: the status is 200 then."""
        return self._writer is not None

    # --- the run's progress -------------------------------------------------------------------

    def queued(self, position: int) -> None:
        """Send the place in the queue."""
        self._unsent.tell(b"queue", to_json({"position": position}))
        self._begin()

    def line(self, text: str) -> None:
        """Send a line of the installer."""
        self._unsent.tell(b"install", to_json({"line": text[:MAX_LINE_CHARS]}))
        self._begin()

    def leased(self) -> None:
        """Send the head: from here on a run may be silent for long."""
        self._begin()

    def output(self, kind: Kind, data: bytes) -> None:
        """Send output."""
        self._unsent.output.add(kind, data)
        self._begin()

    # --- its end ------------------------------------------------------------------------------

    def send(self, event: Event) -> None:
        """Send an event whose document comes in parts, after all output until now."""
        self._unsent.add(event)
        self._begin()

    def finish(self, *events: Event) -> None:
        """Send the last events, whose documents come in parts."""
        self._unsent.finish(*events)
        self._begin()

    async def sent(self) -> None:
        """Wait until the client has all events, or has gone."""
        try:
            await self._begin()
        except (ConnectionError, TimeoutError):
            record = self._request[RECORD]
            record.code, record.status = "client_gone", GONE

    def close(self) -> None:
        """Stop writing, and drop the events that are left."""
        if self._writer is not None:
            self._writer.cancel()
        # The traceback of a failed writer keeps the writer alive until the collector runs. Without
        # this line it would keep a document of megabytes, too.
        self._unsent = Unsent()

    # --- writing ------------------------------------------------------------------------------

    def _begin(self) -> asyncio.Task[None]:
        self._held.resize(self._unsent.held_bytes)
        self._wake.set()
        if self._writer is None:
            self._writer = asyncio.create_task(self._write(), name="write events")
            self._writer.add_done_callback(_retrieve)
        return self._writer

    async def _write(self) -> None:
        response = self.response
        try:
            self._request[RECORD].sign(response, self._request.app[SENDER])
            await response.prepare(self._request)
            data = self._take() or _BEGIN
            while not self._unsent.ended:
                async with asyncio.timeout(STALL_S):
                    await response.write(data)
                data = await self._next()
            # Whoever has the last event may leave, so the end of the stream goes with it.
            async with asyncio.timeout(STALL_S):
                await response.write_eof(data)
        except Exception:
            # A client with half a stream must see that it broke. This also ends the run.
            abort(self._request)
            raise

    async def _next(self) -> bytes:
        """Wait for the next bytes to send, and return them; `b""` at the end."""
        # Without this, a long backlog and a fast client would block the loop.
        await (turn() if self._held.size else asyncio.sleep(0))
        while not (data := self._take()) and not self._unsent.ended:
            self._wake.clear()
            try:
                async with asyncio.timeout(KEEPALIVE_S):
                    await self._wake.wait()
            except TimeoutError:
                return _KEEPALIVE
        return data

    def _take(self) -> bytes:
        data = self._unsent.take()
        self._held.resize(self._unsent.held_bytes)
        return data


class Unsent:
    """The events still to be sent, in order: the progress, the output, and the last event."""

    def __init__(self) -> None:
        self.output = _Backlog()
        self.ended = False
        self._finished = False
        self._documents: deque[tuple[Iterator[bytes | memoryview], int]] = deque()
        self._documents_bytes = 0
        self._told: deque[tuple[bytes, bytes]] = deque(maxlen=MAX_LINES)
        self._told_bytes = 0
        make = codecs.getincrementaldecoder("utf-8")
        self._decoders = {kind: make("replace") for kind in _NAMES}

    @property
    def held_bytes(self) -> int:
        """The bytes of all events in memory, nearly."""
        return self.output.held_bytes + self._told_bytes + self._documents_bytes

    def tell(self, name: bytes, document: bytes) -> None:
        """Add an event of progress, which comes before all output. Drop the oldest of too many."""
        if name == b"queue" and self._told and self._told[-1][0] == name:
            self._forget(self._told.pop())  # out of date
        while len(self._told) == MAX_LINES or self._told_bytes > MAX_TOLD_BYTES:
            self._forget(self._told.popleft())
        self._told.append((name, document))
        self._told_bytes += len(document)

    def add(self, event: Event) -> None:
        """Add an event whose document comes in parts. It comes after all progress and output."""
        name, document = event
        pieces = cut((b"event: %b\ndata: " % name, *document, b"\n\n"))
        self._documents.append((pieces, size := held_bytes(document)))
        self._documents_bytes += size

    def finish(self, *events: Event) -> None:
        """Add the last events."""
        for event in events:
            self.add(event)
        self._finished = True

    def take(self) -> bytes:
        """Return the next events, up to `CHUNK_BYTES` or a little more; the last one in pieces."""
        events = bytearray()
        while self._told and len(events) < CHUNK_BYTES:
            told = self._told.popleft()
            self._forget(told)
            events += _event(*told)
        while self.output and len(events) < CHUNK_BYTES:
            events += self._text(*self.output.take(TEXT_BYTES))
        if self._told or self.output:
            return bytes(events)
        if self._finished and not self.ended:
            for kind in _NAMES:
                events += self._text(kind, b"", final=True)
        while self._documents and len(events) < CHUNK_BYTES:
            pieces, size = self._documents[0]
            if (piece := next(pieces, None)) is not None:
                events += piece
            else:
                self._documents.popleft()
                self._documents_bytes -= size
        self.ended = self._finished and not self._documents
        return bytes(events)

    def _forget(self, told: tuple[bytes, bytes]) -> None:
        self._told_bytes -= len(told[1])

    def _text(self, kind: Kind, data: bytes, *, final: bool = False) -> bytes:
        text = self._decoders[kind].decode(data, final)
        return _event(_NAMES[kind], to_json({"text": text})) if text else b""


class _Backlog:
    """Output in its order. It costs little, even if the two streams alternate often."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._sizes: deque[int] = deque()  # of one stream, of the other, of the one again, …
        self._oldest = self._newest = Kind.STDOUT

    def __bool__(self) -> bool:
        return bool(self._sizes)

    @property
    def held_bytes(self) -> int:
        return len(self._data) + 8 * len(self._sizes)

    def add(self, kind: Kind, data: bytes) -> None:
        if not self._sizes:
            self._oldest = kind
            self._sizes.append(len(data))
        elif kind is self._newest:
            self._sizes[-1] += len(data)
        else:
            self._sizes.append(len(data))
        self._newest = kind
        self._data += data

    def take(self, limit_bytes: int) -> tuple[Kind, bytes]:
        kind, size = self._oldest, self._sizes[0]
        if size > limit_bytes:
            self._sizes[0] -= limit_bytes
            size = limit_bytes
        else:
            self._sizes.popleft()
            self._oldest = Kind.STDERR if kind is Kind.STDOUT else Kind.STDOUT
        piece = bytes(self._data[:size])
        del self._data[:size]
        return kind, piece


def _event(name: bytes, document: bytes) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name, document)  # JSON has no line ends of its own


def _retrieve(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        task.exception()
