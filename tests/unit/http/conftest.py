"""A server on a real socket, with a service behind it that does as it is told."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import ClientSession

from pgexec.http.routes import CONTEXT, make_app
from pgexec.http.server import HttpServer
from pgexec.http.sse import STALL_S
from pgexec.settings import Settings
from pgexec.telemetry.metrics import Metrics
from tests.unit.http.rig import FakeService, Running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.unit.http.rig import Serve


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Start servers with settings of their own; all are closed after the test."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(*, stall_timeout_s: float = STALL_S, **changes: Any) -> Running:
            settings = Settings.of(**changes)
            service, metrics = FakeService(), Metrics()
            app = make_app(settings, service, metrics)
            server = HttpServer(
                app,
                app[CONTEXT].reporter.answered,
                request_timeout_s=settings.request_timeout_s,
                keepalive_timeout_s=settings.keepalive_timeout_s,
                max_connections=settings.max_connections,
                stall_timeout_s=stall_timeout_s,
                shutdown_timeout_s=0.1,
            )
            port = await server.start("127.0.0.1", 0)
            stack.push_async_callback(server.close)
            session = await stack.enter_async_context(ClientSession())
            running = Running(port, service, metrics, server, session, app[CONTEXT])

            def hang_up() -> None:
                for writer in running.writers:
                    writer.close()

            stack.callback(hang_up)
            return running

        yield start


@pytest.fixture
async def server(serve: Serve) -> Any:
    return await serve()
