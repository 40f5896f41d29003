"""The listening socket, and a client's connection: aiohttp's, with a time limit for the head.

The answer to every error is JSON.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, cast

from aiohttp import web, web_protocol
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.web_protocol import RequestPayloadError, _ErrInfo

from pgexec.http.crowd import Crowd
from pgexec.http.errors import MAX_FIELD_BYTES, MAX_LINE_BYTES, problem_of
from pgexec.http.pace import Pace
from pgexec.http.record import RECORD, SENDER, Record, request_id
from pgexec.http.sse import STALL_S
from pool.turns import rounds

if TYPE_CHECKING:
    from aiohttp.streams import StreamReader

    from pgexec.http.record import Answered, Sender

logger = logging.getLogger("pgexec.connection")

BACKLOG = 1024
MAX_HEAD_BYTES = 64 << 10
"""aiohttp limits the lines of a head and their number, which together allow 1 MiB. The number of
trailers, which may follow a chunked body, it does not limit."""
MAX_PIPELINED = 2
"""So many requests of a connection wait behind the one that is answered; further ones stay unread.
aiohttp's own 32, with bodies of many tiny chunks, would take 7 MB of each connection."""
web_protocol.MAX_MSG_QUEUE_SIZE = MAX_PIPELINED
WRITE_BUFFER_BYTES = 32 << 10
"""A handler waits while more bytes than this are unsent to its client."""
LARGE_READ_BYTES = 16 << 10
"""A connection of which more than this came at once is read again only when its turn comes."""
LINGER_S = 2.0
"""A refused body is still read for so many seconds, so that its client sees the answer."""


class HttpServer:
    """Serves an application on `Connection`s. If a client hangs up, its handler is cancelled."""

    def __init__(
        self,
        app: web.Application,
        answered: Answered,
        *,
        request_timeout_s: float,
        keepalive_timeout_s: float,
        max_connections: int,
        stall_timeout_s: float = STALL_S,
        shutdown_timeout_s: float = 5.0,
    ) -> None:
        self._runner = web.AppRunner(
            app, handler_cancellation=True, shutdown_timeout=shutdown_timeout_s
        )
        self._connection = partial(
            Connection,
            answered=answered,
            sender=app[SENDER],
            crowd=Crowd(max_connections),
            request_timeout_s=request_timeout_s,
            keepalive_timeout_s=keepalive_timeout_s,
            stall_timeout_s=stall_timeout_s,
        )
        self._listener: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen, and return the port. Raises `OSError` if it cannot have the address."""
        await self._runner.setup()
        manager = cast("web.Server", self._runner.server)
        loop = asyncio.get_running_loop()
        factory = partial(self._connection, manager, loop=loop)
        self._listener = await loop.create_server(
            factory, host, port, backlog=BACKLOG, reuse_address=True
        )
        return int(self._listener.sockets[0].getsockname()[1])

    def stop_listening(self) -> None:
        """Accept no new connections; the present ones go on."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    async def close(self) -> None:
        """Close idle connections, let answers be written, then close and cancel the rest."""
        self.stop_listening()
        await self._runner.cleanup()


class Connection(web.RequestHandler):
    """aiohttp's protocol with some additions; these use private names of aiohttp (3.14).

    - A head must be complete `request_timeout_s` after the connection was made or, on a
      connection kept alive, after its first bytes; else 408.
    - If a body breaks off, by bad framing or because the client stops sending, the handler that
      reads it gets an error.
    - A client that takes nothing of its answer for `stall_timeout_s`, or too little for that
      long, is disconnected.
    - Connections that send much at once take turns: one of them is read in each round of the loop,
      even where nothing but the end of a refused body comes.
    - If `crowd` has no place for a new connection, an idle one makes way; else it is refused.
    - Each answer, even to bytes that are not HTTP, is JSON, and is reported to `answered`. If
      `sender` is leaving, the connection ends with it.
    """

    __slots__ = (
        "_answered",
        "_crowd",
        "_head_bytes",
        "_head_timeout_s",
        "_head_timer",
        "_in_line",
        "_last_content",
        "_pace",
        "_sender",
        "_some_head",
    )

    def __init__(
        self,
        manager: web.Server,
        *,
        loop: asyncio.AbstractEventLoop,
        answered: Answered,
        sender: Sender,
        crowd: Crowd,
        request_timeout_s: float,
        keepalive_timeout_s: float,
        stall_timeout_s: float = STALL_S,
    ) -> None:
        super().__init__(
            manager,
            loop=loop,
            keepalive_timeout=keepalive_timeout_s,
            lingering_time=LINGER_S,
            max_line_size=MAX_LINE_BYTES,
            max_field_size=MAX_FIELD_BYTES,
            auto_decompress=False,
            logger=logger,
        )
        self._answered = answered
        self._sender = sender
        self._head_timeout_s = request_timeout_s
        self._head_timer: asyncio.TimerHandle | None = None
        self._some_head = False
        self._head_bytes = 0
        self._in_line = False
        self._last_content = EMPTY_PAYLOAD
        self._crowd = crowd
        self._pace = Pace(loop, stall_timeout_s)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for the first head, if there is a place for the connection."""
        stream = cast("asyncio.Transport", transport)
        if not self._crowd.enter(self):
            self._force_close = True  # the server ignores all that it sends
            self._crowd.refuse(stream, self._loop.call_later, self._sender.name)
            return
        stream.set_write_buffer_limits(WRITE_BUFFER_BYTES)
        super().connection_made(transport)
        self._head_timer = self._loop.call_later(self._head_timeout_s, self._head_is_late)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Stop waiting."""
        self._crowd.leave(self)
        self._stop_waiting()
        self._pace.stop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse, and limit the time and size of a head that comes in pieces."""
        if len(data) > LARGE_READ_BYTES:
            self._get_in_line()
        seen, content = self._request_count, self._last_content
        in_head, before = content.is_eof(), content.total_bytes
        super().data_received(data)
        if self._request_count != seen:
            self._stop_waiting()
            self._head_bytes = 0
            if self._messages:
                self._last_content = self._messages[-1][1]
            self._hand_over_body_error()
            for _, waiting in self._messages:
                _join_chunks(waiting)
            return
        if content.total_bytes > before or content.is_eof() > in_head:
            self._head_bytes = 0
        else:  # a part of a head, or of the trailers that may follow a chunked body
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                if in_head:
                    self._refuse_head(LineTooLong("the head", str(MAX_HEAD_BYTES)))
                else:
                    self._break_off(content, "what follows the body is over 64 KiB")
                return
        if data and (self._head_timer is not None or self._idle()):
            self._some_head = True
            if self._head_timer is None:
                self._head_timer = self._loop.call_later(self._head_timeout_s, self._head_is_late)

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio takes a bool
        """Answer a body that ends too early; else close the connection.

        The client has either closed the connection, or only its sending half. Nothing but an
        attempt to write tells which. After a whole request this counts as hanging up, and ends its
        run: clients that give up are common, clients that half-close are not. After half a body
        nothing runs yet, so an answer costs nothing, even if nobody reads it.
        """
        request = self._current_request
        content = self._last_content
        if content.is_eof() or self._close or self._force_close:
            return False
        if request is not None and request.content is not content:
            return False  # one request is being answered, and the next one's body is incomplete
        self._break_off(content, "the body ended before it was complete")
        return True

    def pause_writing(self) -> None:
        """Begin to watch a client that reads too slowly: its answer fills memory meanwhile."""
        super().pause_writing()
        if self.transport is not None:
            self._pace.behind(self.transport)

    def resume_writing(self) -> None:
        """Stop watching."""
        self._pace.caught_up(self.transport)
        super().resume_writing()

    def _get_in_line(self) -> None:
        if not self._in_line:
            self._in_line = True
            self._pause_transport_reading()
            rounds().place().add_done_callback(self._have_turn)

    def _have_turn(self, _place: asyncio.Future[None]) -> None:
        self._in_line = False
        if not self._reading_paused and not self._buffer_paused:
            self._resume_transport_reading()

    def _resume_transport_reading(self) -> None:
        if not self._in_line:  # else this turn does it
            super()._resume_transport_reading()

    @property
    def idle_since(self) -> float | None:
        """The time of the last answer, or of the connection's begin; `None` while it is in use."""
        if not self._idle() or self._some_head:
            return None
        return self._next_keepalive_close_time

    def _idle(self) -> bool:
        return self._waiter is not None and not self._waiter.done()

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        self._some_head = False

    def _head_is_late(self) -> None:
        self._head_timer = None
        waiter = self._waiter
        if waiter is None or waiter.done():
            return
        if not self._some_head:
            # No request has begun, so there is nothing to answer.
            self.force_close()
            return
        self._refuse_head(
            HttpProcessingError(
                code=HTTPStatus.REQUEST_TIMEOUT, message="the head did not arrive in time"
            )
        )

    def _refuse_head(self, error: HttpProcessingError) -> None:
        """Answer a head that is not complete, and read no further."""
        self._close = True
        waiter = self._waiter
        if waiter is None or waiter.done():
            return  # a request before it is being answered; then the connection ends
        refused = _ErrInfo(status=error.code, exc=error, message=error.message)
        self._request_count += 1
        self._messages.append((refused, EMPTY_PAYLOAD))
        waiter.set_result(None)

    def _hand_over_body_error(self) -> None:
        """If the framing of a body cannot be parsed, raise this in the body's reader.

        Without this, the reader would go on waiting: aiohttp queues the error behind the request.
        """
        request = self._current_request
        if request is None or request.content.is_eof():
            return
        if isinstance(self._messages[-1][0], _ErrInfo):
            self._messages.pop()
            self._break_off(request.content, "the body is not framed as HTTP has it")

    def _break_off(self, content: StreamReader, reason: str) -> None:
        """End a body by an error in its reader, and read no further."""
        content.set_exception(RequestPayloadError(reason))
        content.feed_eof()
        self.close()

    def log_exception(self, *args: object, **options: object) -> None:
        """Log an error, except that a refused body ended early: this is the client's fault."""
        if isinstance(sys.exc_info()[1], RequestPayloadError):
            return
        super().log_exception(*args, **options)

    def log_access(
        self,
        request: web.BaseRequest,
        response: web.StreamResponse,
        time: float | None,  # noqa: ARG002  # the loop's clock; see Record
    ) -> None:
        """Report an answer that has just been written."""
        if RECORD not in request:
            # aiohttp has answered an exception from outside of our own middleware.
            request[RECORD] = Record(response.headers.get("X-Request-ID", ""))
        self._answered(request, response)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Write the answer. Replace an answer of aiohttp's own by one of ours."""
        if isinstance(resp, web.HTTPException):
            problem = problem_of(resp)
            resp = problem.response()
            if RECORD not in request:
                # aiohttp raised it before our middleware saw the request.
                sent = request.headers.get("X-Request-ID")
                record = request[RECORD] = Record(request_id(sent), code=problem.code)
                record.sign(resp, self._sender)
            if not request.content.is_eof():
                resp.force_close()
        finished = await super().finish_response(request, resp, start_time)
        if self._sender.leaving:  # a stream whose head was sent before ends its connection, too
            finished[0].force_close()
        return finished

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,  # noqa: ARG002  # the table knows better
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002
    ) -> web.StreamResponse:
        """Answer an error that no handler sees: bad HTTP, a late head, an error within aiohttp."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer is on its way already")
        record = request[RECORD] = Record(request_id(None))
        error = exc if exc is not None else RuntimeError("no cause given")
        response = record.fail(error).response()
        record.sign(response, self._sender)
        response.force_close()
        return response


def _join_chunks(content: StreamReader) -> None:
    """Keep what came of a body that waits for its turn as one piece.

    Without this, each of its chunks takes some 50 bytes more than it has, and chunks of one byte
    make 2 MB of what the budget does not count yet.
    """
    if content is not EMPTY_PAYLOAD and len(content._buffer) > 1:  # noqa: SLF001 - no other way
        whole = b"".join(content._buffer)  # noqa: SLF001
        content._buffer.clear()  # noqa: SLF001
        content._buffer.append(whole)  # noqa: SLF001
        if content._http_chunk_splits:  # noqa: SLF001
            content._http_chunk_splits.clear()  # noqa: SLF001
