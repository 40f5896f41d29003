"""The table of routes, and the handler of each. No logic: parse, delegate, answer.

A new path is a new line of `ROUTES`. From it follow the application, `/openapi.json`, the label
`path` of the metrics, the names of spans, and the level in the log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from aiohttp import HttpVersion11, web

from pgexec.http.access import (
    Access,
    check_host,
    name_user,
    tenant_of,
    with_key,
    with_own_name,
)
from pgexec.http.answering import answer, answer_events
from pgexec.http.batch import answer_batch, answer_batch_events
from pgexec.http.body import check_json, keep, read_body, small_body
from pgexec.http.budget import Budget
from pgexec.http.cors import allow_origins
from pgexec.http.delivery import deliver, joined
from pgexec.http.errors import JSON_HEADERS, RequestError
from pgexec.http.excerpt import parse_body
from pgexec.http.limits import RequestLimits
from pgexec.http.openapi import (
    RUN_ANSWER,
    RUN_BODY,
    RouteDescription,
    constant,
    describe_api,
    json_answer,
    query_parameter,
    reference,
    text_answer,
)
from pgexec.http.page import EDITOR_PATH, Page, make_page
from pgexec.http.parsing import parse_run
from pgexec.http.peers import add_peers, describe_peers
from pgexec.http.recent import Recent
from pgexec.http.record import LEAVING, RECORD, SENDER, Record, Sender, request_id
from pgexec.http.reporter import Reporter
from pgexec.http.sessions import API as SESSIONS
from pgexec.http.sessions import PATHS as SESSION_PATHS
from pgexec.http.sessions import add_sessions, describe_sessions
from pgexec.http.sse import answer_with_events, wants_events
from pgexec.http.status import render_status
from pgexec.server_state import ServerStatus
from pgexec.telemetry.exposition import CONTENT_TYPE
from pool.turns import turn

if TYPE_CHECKING:
    from pgexec.contract import RunRequest
    from pgexec.http.tracing import Tracer
    from pgexec.service import Service
    from pgexec.sessions import SessionService
    from pgexec.settings import Settings
    from pgexec.telemetry.metrics import Metrics

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

PONG = b'{"message": "pong"}'
HEALTHY = b'{"status": "ok"}'
READY = b'{"status": "ready"}'


@dataclass(frozen=True, slots=True)
class Context:
    """The objects that all handlers share."""

    settings: Settings
    limits: RequestLimits
    limits_of: dict[str, RequestLimits]
    service: Service
    metrics: Metrics
    reporter: Reporter
    recent: Recent
    page: Page
    openapi: bytes
    bodies: Budget
    answers: Budget


CONTEXT = web.AppKey("context", Context)


@web.middleware
async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give the request an id, and turn each exception into an answer."""
    record = request[RECORD] = Record(request_id(request.headers.get("X-Request-ID")))
    try:
        response = await handler(request)
    except asyncio.CancelledError:
        request.app[CONTEXT].reporter.gone(request)
        raise
    except Exception as error:  # noqa: BLE001  # whatever it is, the client gets JSON
        response = record.fail(error).response()
        if "Expect" in request.headers and not request.content.is_eof():
            # The client may still send the body, or not: the next request could begin anywhere.
            response.force_close()
    if not response.prepared:
        record.sign(response, request.app[SENDER])
    return response


async def expect(request: web.Request) -> None:
    """Refuse unknown expectations; `read_body` says `100 Continue` once the head is checked."""
    if request.headers["Expect"].lower() != "100-continue" and request.version >= HttpVersion11:
        raise web.HTTPExpectationFailed


async def run(request: web.Request, tenant: str = "") -> web.StreamResponse:
    """Run a snippet."""
    context, record = request.app[CONTEXT], request[RECORD]
    record.tenant = tenant
    check_json(request)
    if "Origin" in request.headers:
        check_host(request, context.settings)
    if (body := small_body(request)) is not None:
        return await respond(request, parse_run(body, context.limits))
    with context.bodies.hold(tenant) as held:
        wanted = await parse_body(
            await read_body(
                request, context.settings.body_limit, context.settings.request_timeout_s, held
            ),
            context.limits,
        )
        keep(held, wanted)
        return await respond(request, wanted)


async def respond(request: web.Request, wanted: RunRequest) -> web.StreamResponse:
    """Run a snippet and answer with events or with one document, as the client asks."""
    context, record = request.app[CONTEXT], request[RECORD]
    if wanted.user is not None:
        name_user(record, wanted.user, context.settings.trusted_keys)
    if wants_events(", ".join(request.headers.getall("Accept", ()))):
        if wanted.stdins is not None:
            events = partial(answer_batch_events, context, request, wanted)
        else:
            events = partial(answer_events, context, request, record, wanted)
        return await answer_with_events(request, events, context.answers)
    if wanted.stdins is not None:
        return await answer_batch(context, request, wanted)
    document = await answer(context, request, record, wanted)
    if len(document) == 1 and isinstance(whole := document[0], bytes):
        return web.Response(body=whole, headers=JSON_HEADERS)
    return await deliver(request, document, context.answers)


async def answer_whole(request: web.Request, body: bytearray) -> bytearray:
    """Run the snippet in the body of a request to `/run`, and return its JSON document."""
    context = request.app[CONTEXT]
    wanted = await parse_body(body, context.limits)
    return await joined(await answer(context, request, request[RECORD], wanted))


async def ping(_request: web.Request) -> web.Response:
    """Answer, so that a client knows that the server is there."""
    return web.Response(body=PONG, headers=JSON_HEADERS)


async def healthz(_request: web.Request) -> web.Response:
    """Answer that the process lives."""
    return web.Response(body=HEALTHY, headers=JSON_HEADERS)


async def readyz(request: web.Request) -> web.Response:
    """Answer if a run would be served now, and if not, the reason.

    `?full=ok` is for balancers that try a 503 elsewhere: a full queue may have room long before
    they ask again.
    """
    full = request.query.get("full")
    if full not in (None, "ok"):
        raise RequestError(HTTPStatus.BAD_REQUEST, "invalid_field", "full may be ok or left out")
    if (reason := unready(request, though_full=full == "ok")) is not None:
        unavailable = HTTPStatus.SERVICE_UNAVAILABLE
        raise RequestError(unavailable, "not_ready", reason, Retry_After="1")
    return web.Response(body=READY, headers=JSON_HEADERS)


def unready(request: web.Request, *, though_full: bool = False) -> str | None:
    """Return the reason why a balancer should send no runs here now, or `None`."""
    if request.app[SENDER].leaving:
        return LEAVING
    return request.app[CONTEXT].service.unready(though_full=though_full)


async def openapi_json(request: web.Request) -> web.Response:
    """Return the OpenAPI document."""
    return web.Response(body=request.app[CONTEXT].openapi, headers=JSON_HEADERS)


async def metrics_text(request: web.Request, _tenant: str = "") -> web.Response:
    """Expose every series in Prometheus' text format."""
    headers = {**JSON_HEADERS, "Content-Type": CONTENT_TYPE}
    await turn()  # else each round makes one for every connection that asks
    return web.Response(body=request.app[CONTEXT].metrics.render(), headers=headers)


async def page_html(request: web.Request) -> web.Response:
    """Return the page, which gets its figures from `/status`."""
    return request.app[CONTEXT].page.html.answer(request)


async def page_editor(request: web.Request) -> web.Response:
    """Return the page's editor."""
    return request.app[CONTEXT].page.editor.answer(request)


async def status(request: web.Request, tenant: str = "") -> web.Response:
    """Return the load of the pools and, if the page may show them, the last runs of the caller.

    Like the metrics, the load may need no key; the runs of a key's owner do.
    """
    context = request.app[CONTEXT]
    settings, keys = context.settings, context.settings.api_keys
    if keys and not tenant and "Authorization" in request.headers:
        tenant = tenant_of(request, keys)
    shown = settings.page and (tenant or not keys)
    own = context.recent.document(tenant) if shown else {}
    sessions = request.app[SESSIONS].service.figures() if SESSIONS in request.app else None
    body = render_status(settings, unready(request), context.service.pools(), sessions, own)
    return web.Response(body=body, headers={**JSON_HEADERS, "Cache-Control": "no-store"})


@dataclass(frozen=True, slots=True)
class Route:
    """A method and a path, their handler, and all other facts about them.

    If `access` asks for a key, `handler` also gets the caller's tenant. `operation` is the entry in
    `/openapi.json`, or `None` if the route is for people only. `expect` answers the header
    `Expect`; if it is `None`, aiohttp does.
    """

    method: str
    path: str
    handler: Callable[..., Awaitable[web.StreamResponse]]
    operation: RouteDescription | None
    access: Access = Access.OPEN
    expect: Callable[[web.Request], Awaitable[None]] | None = None
    counted: bool = True
    """True if metrics and spans have its path; else it counts as `other`."""
    polled: bool = False
    """True if machines ask every few seconds: the log then has a 200 at `debug` only."""
    own_name: bool = False
    """True if a server without keys answers only by its own names: the answer tells about it."""
    page: bool = False
    """True if the route exists only with `PGEXEC_PAGE`."""


ROUTES = (
    Route(
        "POST",
        "/run",
        run,
        RouteDescription(
            "Run a snippet", RUN_ANSWER, (403, 413, 415, 421, 422, 429, 502, 503), RUN_BODY
        ),
        Access.KEY,
        expect,
    ),
    Route(
        "GET",
        "/ping",
        ping,
        RouteDescription("Answer", json_answer("Somebody does.", constant(message="pong"))),
        polled=True,
    ),
    Route(
        "GET",
        "/healthz",
        healthz,
        RouteDescription("Live", json_answer("The process lives.", constant(status="ok"))),
        polled=True,
    ),
    Route(
        "GET",
        "/readyz",
        readyz,
        RouteDescription(
            "Ready",
            json_answer("A run would be served.", constant(status="ready")),
            (421, 503),
            parameters=(query_parameter("full", "ok", "Ready also while too many runs wait."),),
        ),
        polled=True,
        own_name=True,
    ),
    Route(
        "GET",
        "/metrics",
        metrics_text,
        RouteDescription("Metrics for Prometheus", text_answer("Text"), (421,)),
        Access.METRICS,
        polled=True,
        own_name=True,
    ),
    Route(
        "GET",
        "/openapi.json",
        openapi_json,
        RouteDescription("This document", json_answer("It.", {"type": "object"}), (421,)),
        own_name=True,
    ),
    Route(
        "GET",
        "/status",
        status,
        RouteDescription(
            "The load of the server, and what the page shows",
            json_answer("The pools, and the caller's own runs.", reference(ServerStatus)),
            (401, 421),
        ),
        Access.METRICS,
        polled=True,
        own_name=True,
    ),
    # Not counted by path: for aiohttp, every request that it cannot read has the path `/`.
    Route("GET", "/", page_html, None, counted=False, own_name=True, page=True),
    Route("GET", EDITOR_PATH, page_editor, None, counted=False, own_name=True, page=True),
)
PATHS = frozenset(route.path for route in ROUTES if route.counted) | SESSION_PATHS
POLLED = frozenset(route.path for route in ROUTES if route.polled)


def make_app(
    settings: Settings,
    service: Service,
    metrics: Metrics,
    tracer: Tracer | None = None,
    sessions: SessionService | None = None,
) -> web.Application:
    """Return the application; it neither starts nor stops the services."""
    app = web.Application(middlewares=[answer_errors])
    routes = [route for route in ROUTES if settings.page or not route.page]
    limits = RequestLimits.of(settings)
    recent = Recent()
    app[SENDER] = Sender(settings.server_name)
    app[CONTEXT] = Context(
        settings=settings,
        limits=limits,
        limits_of={
            language: replace(
                limits,
                memory_limit_bytes=profile.settings.memory_limit,
                cpus=profile.settings.cpus,
            )
            for language, profile in settings.by_language.items()
        },
        service=service,
        metrics=metrics,
        reporter=Reporter(metrics, PATHS, POLLED, recent if settings.page else None, tracer),
        recent=recent,
        page=make_page(settings),
        openapi=describe_api(
            [
                *(
                    (route.method, route.path, route.operation, route.access.asks_key(settings))
                    for route in routes
                    if route.operation is not None
                ),
                *describe_peers(settings.compat, keys=bool(settings.api_keys)),
                *describe_sessions(keys=bool(settings.api_keys)),
            ],
            limits,
        ),
        bodies=Budget(settings.held_limit),
        answers=Budget(settings.held_limit),
    )
    for route in routes:
        keyed = route.access.asks_key(settings)
        handler = with_key(route.handler, settings.api_keys) if keyed else route.handler
        if route.own_name and not settings.api_keys:
            handler = with_own_name(handler, settings)
        options: dict[str, Any] = {} if route.expect is None else {"expect_handler": route.expect}
        app.add_routes([web.RouteDef(route.method, route.path, handler, options)])
    add_peers(app, app[CONTEXT], answer_whole, expect)
    if sessions is not None:
        add_sessions(app, app[CONTEXT], sessions, expect)
    if settings.cors_origins:
        allow_origins(app, frozenset(settings.cors_origins))
    return app
