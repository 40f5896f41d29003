"""The tools over HTTP: who may call them, and with which API key.

A request of revision 2026-07-28 stands for itself; clients of earlier revisions get a session of
the protocol's, which lives in this process.
"""

from __future__ import annotations

import asyncio
import re
import socket
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import uvicorn
from starlette.datastructures import Headers
from starlette.responses import JSONResponse

from pgexec.client import RunRefused

if TYPE_CHECKING:
    from mcp.server.lowlevel.server import Server
    from starlette.types import ASGIApp, Receive, Scope, Send

    from pgexec.mcp.clients import Clients

PATH = "/mcp"
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
MAX_BODY_BYTES = 32 << 20
"""Room for 16 MiB of files, the default of PGEXEC_FILES_LIMIT, as base64."""
FINISH_WITHIN_S = 5
MAX_PORT = 65535
_BEARER = re.compile(r"bearer +([\x21-\x7e]+)", re.IGNORECASE)


class McpListenError(Exception):
    """The address cannot be listened on; the text says why."""


def key_of_request(request: Any, *, lends: bool) -> str | None:  # noqa: ANN401  # the SDK's
    """Return the API key that a request brings along; `lends` says if one without gets our own.

    `None` stands for the key of the environment, an empty text for none. Raises `RunRefused` for
    an `Authorization` that has no key.
    """
    header = None if request is None else request.headers.get("authorization")
    if header is None:
        return None if lends else ""
    bearer = _BEARER.fullmatch(header.strip())
    if bearer is None:
        raise RunRefused("Authorization must be Bearer and an API key", code="unauthorized")
    return bearer[1]


class OriginGuard:
    """Refuses requests from the pages of other sites, whatever name they gave this address.

    A browser sends `Origin` with every POST, and no client but a browser has one to send.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        origin = Headers(scope=scope).get("origin") if scope["type"] == "http" else None
        if origin is None or _host_of(origin) in LOOPBACK:
            await self._app(scope, receive, send)
            return
        refusal = {"error": "pages of other sites may not call this server"}
        await JSONResponse(refusal, HTTPStatus.FORBIDDEN)(scope, receive, send)


def _host_of(origin: str) -> str | None:
    try:
        return urlsplit(origin).hostname
    except ValueError:
        return None


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on an address. Raises `McpListenError`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    if not 0 <= port <= MAX_PORT:
        raise McpListenError(f"a port is a number from 0 to {MAX_PORT}, not {port}")
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise McpListenError(
            f"{host}, port {port}, cannot be listened on: {error.strerror or error}"
        ) from error


def serve(server: Server[Clients], host: str, listener: socket.socket) -> None:
    """Serve until a signal, which ends the runs that go on."""
    app = server.streamable_http_app(
        streamable_http_path=PATH, host=host, max_request_body_size=MAX_BODY_BYTES
    )
    config = uvicorn.Config(
        OriginGuard(app),
        log_level="warning",
        access_log=False,
        ws="none",
        timeout_graceful_shutdown=FINISH_WITHIN_S,
    )
    asyncio.run(uvicorn.Server(config).serve(sockets=[listener]))
