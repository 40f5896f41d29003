"""The listening socket and the connections that came in through it."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, cast

from aiohttp import web

from pgexec.http.connection import Connection
from pgexec.http.sse import STALL_S

if TYPE_CHECKING:
    from pgexec.http.record import Answered

BACKLOG = 1024


class HttpServer:
    """Serves an application on `Connection`s; a client that hangs up cancels its handler."""

    def __init__(
        self,
        app: web.Application,
        answered: Answered,
        *,
        request_timeout_s: float,
        keepalive_timeout_s: float,
        stall_timeout_s: float = STALL_S,
        shutdown_timeout_s: float = 5.0,
    ) -> None:
        self._runner = web.AppRunner(
            app, handler_cancellation=True, shutdown_timeout=shutdown_timeout_s
        )
        self._connection = partial(
            Connection,
            answered=answered,
            request_timeout_s=request_timeout_s,
            keepalive_timeout_s=keepalive_timeout_s,
            stall_timeout_s=stall_timeout_s,
        )
        self._listener: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen, and return the port. Raises `OSError` when the address cannot be had."""
        await self._runner.setup()
        manager = cast("web.Server", self._runner.server)
        loop = asyncio.get_running_loop()
        factory = partial(self._connection, manager, loop=loop)
        self._listener = await loop.create_server(
            factory, host, port, backlog=BACKLOG, reuse_address=True
        )
        return int(self._listener.sockets[0].getsockname()[1])

    def stop_listening(self) -> None:
        """Take no further connections; those that exist go on."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    async def close(self) -> None:
        """Close idle connections, let answers be written, then close and cancel the rest."""
        self.stop_listening()
        await self._runner.cleanup()
