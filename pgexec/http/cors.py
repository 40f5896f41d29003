"""Pages of other origins: those that `PGEXEC_CORS_ORIGINS` lists may call from their script.

A browser reads an answer for a page of another origin only if the answer names that origin, and
sends it JSON or a key only after it has asked by `OPTIONS` (a preflight). The answers to all other
requests stay as they are. https://fetch.spec.whatwg.org/#http-cors-protocol
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from aiohttp import web

from pgexec.http.record import NAME_HEADER

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

SENT = "Authorization, Content-Type, X-Api-Key, X-Request-ID"
"""The headers that a page may send; all others either go without being asked for, or not at all."""
SHOWN = f"Location, Retry-After, Server-Timing, X-Request-ID, {NAME_HEADER}"
"""The headers of an answer that a page may read."""
MAX_AGE_S = 7200
"""Chromium keeps a preflight's answer for no longer than this, Firefox for a day."""


def allow_origins(app: web.Application, origins: frozenset[str]) -> None:
    """Let pages of `origins` call; call this before the application starts."""

    async def name_origin(request: web.Request, response: web.StreamResponse) -> None:
        origin = request.headers.get("Origin")
        if origin in origins:
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Expose-Headers"] = SHOWN
            response.headers["Vary"] = "Origin"

    @web.middleware
    async def answer_preflight(request: web.Request, handler: Handler) -> web.StreamResponse:
        asked = "Access-Control-Request-Method" in request.headers
        if not asked or request.headers.get("Origin") not in origins:
            return await handler(request)
        refusal = request.match_info.http_exception
        if request.method != "OPTIONS" or not isinstance(refusal, web.HTTPMethodNotAllowed):
            return await handler(request)
        headers = {
            "Access-Control-Allow-Methods": ", ".join(sorted(refusal.allowed_methods)),
            "Access-Control-Allow-Headers": SENT,
            "Access-Control-Max-Age": str(MAX_AGE_S),
            "Server": "pgexec",
        }
        return web.Response(status=HTTPStatus.NO_CONTENT, headers=headers)

    app.middlewares.append(answer_preflight)
    app.on_response_prepare.append(name_origin)
