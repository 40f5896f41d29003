"""The paths that pgexec serves. No logic: parse, delegate, answer."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING

from aiohttp import HttpVersion11, web

from pgexec.body import check_json, read_body
from pgexec.browsers import check_host
from pgexec.errors import JSON_HEADERS, RequestError
from pgexec.events import answer_with_events, wants_events
from pgexec.exposition import CONTENT_TYPE
from pgexec.openapi import describe_api
from pgexec.page import make_page, render_status
from pgexec.recent import Recent
from pgexec.record import RECORD, Record, request_id
from pgexec.reporter import Reporter
from pgexec.schemas import RequestLimits, describe, parse_run, render_result
from pgexec.service import Timings
from pool.requirements import PackageList

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pgexec.metrics import Metrics
    from pgexec.page import Page
    from pgexec.schemas import RunRequest
    from pgexec.service import Progress, Service
    from pgexec.settings import Settings
    from pgexec.tracing import Tracer

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

PATHS = frozenset({"/ping", "/run", "/metrics", "/healthz", "/readyz", "/openapi.json", "/status"})
"""Counted by name; `/` is not, because aiohttp says that of every request that it cannot read."""
PONG = b'{"message": "pong"}'
HEALTHY = b'{"status": "ok"}'


@dataclass(frozen=True, slots=True)
class Context:
    """What the handlers share."""

    settings: Settings
    limits: RequestLimits
    limits_of: dict[str, RequestLimits]
    service: Service
    metrics: Metrics
    reporter: Reporter
    openapi: bytes


CONTEXT = web.AppKey("context", Context)


def make_app(
    settings: Settings,
    service: Service,
    metrics: Metrics,
    tracer: Tracer | None = None,
) -> web.Application:
    """Return the application; it neither starts nor stops the service."""
    app = web.Application(middlewares=[answer_errors])
    limits = RequestLimits(
        languages=tuple(settings.by_language),
        run_timeout_s=settings.run_timeout_s,
        code_limit_bytes=settings.code_limit,
        stdin_limit_bytes=settings.stdin_limit,
        memory_limit_bytes=settings.memory_limit,
        output_limit_bytes=settings.output_limit,
        packages=PackageList(settings.dependency_allow, settings.dependency_deny),
    )
    keyed = bool(settings.api_keys)
    openapi = describe_api(
        limits,
        keyed=keyed,
        metrics_keyed=keyed and not settings.metrics_open,
        page=settings.page,
    )
    limits_of = {
        language: replace(limits, memory_limit_bytes=profile.settings.memory_limit)
        for language, profile in settings.by_language.items()
    }
    recent = Recent() if settings.page else None
    reporter = Reporter(metrics, PATHS, recent, tracer)
    app[CONTEXT] = Context(settings, limits, limits_of, service, metrics, reporter, openapi)
    app.add_routes(
        [
            web.get("/ping", ping),
            web.post("/run", run, expect_handler=expect),
            web.get("/metrics", metrics_text),
            web.get("/healthz", healthz),
            web.get("/readyz", readyz),
            web.get("/openapi.json", openapi_json),
        ]
    )
    if recent is not None:
        page = make_page(keyed=keyed, playground=settings.playground)
        app.add_routes(
            [web.get("/", partial(page_html, page)), web.get("/status", partial(status, recent))]
        )
    return app


@web.middleware
async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give the request its id, and every exception its answer."""
    record = request[RECORD] = Record(request_id(request.headers.get("X-Request-ID")))
    try:
        response = await handler(request)
    except asyncio.CancelledError:
        request.app[CONTEXT].reporter.gone(request)
        raise
    except Exception as error:  # noqa: BLE001  # whatever it is, the client gets JSON
        response = record.fail(error).response()
        if "Expect" in request.headers and not request.content.is_eof():
            # Whether the body comes nevertheless is up to the client.
            response.force_close()
    if not response.prepared:
        record.sign(response)
    return response


async def expect(request: web.Request) -> None:
    """Refuse unknown expectations; `read_body` says `100 Continue` once the head is checked."""
    if request.headers["Expect"].lower() != "100-continue" and request.version >= HttpVersion11:
        raise web.HTTPExpectationFailed


async def run(request: web.Request) -> web.StreamResponse:
    """Run a snippet."""
    context, record = request.app[CONTEXT], request[RECORD]
    record.tenant = authorize(request, context)
    check_json(request)
    if "Origin" in request.headers:
        check_host(request, context.settings)
    body = await read_body(request, context.settings.body_limit, context.settings.request_timeout_s)
    wanted = parse_run(body, context.limits)
    if wants_events(", ".join(request.headers.getall("Accept", ()))):
        return await answer_with_events(request, partial(answer, context, record, wanted))
    document = await answer(context, record, wanted)
    return web.Response(body=document, headers=JSON_HEADERS)


async def answer(
    context: Context, record: Record, wanted: RunRequest, progress: Progress | None = None
) -> bytes:
    """Run a snippet and return the JSON document that says how it went."""
    record.language, timings = wanted.language, Timings()
    record.timings = timings
    limits = context.limits_of[wanted.language]
    timeout_s = limits.timeout_s(wanted)
    result = await context.service.run(wanted, timeout_s, record.tenant, timings, progress)
    record.result = result
    return render_result(result, describe(result, timeout_s, limits))


async def ping(_request: web.Request) -> web.Response:
    """Answer, so that a client knows that somebody does."""
    return web.Response(body=PONG, headers=JSON_HEADERS)


async def healthz(_request: web.Request) -> web.Response:
    """Say that the process lives."""
    return web.Response(body=HEALTHY, headers=JSON_HEADERS)


async def readyz(request: web.Request) -> web.Response:
    """Say whether a run would be served now, and if not, why."""
    if (reason := request.app[CONTEXT].service.unready()) is not None:
        unavailable = HTTPStatus.SERVICE_UNAVAILABLE
        raise RequestError(unavailable, "not_ready", reason, Retry_After="1")
    return web.Response(body=b'{"status": "ready"}', headers=JSON_HEADERS)


async def openapi_json(request: web.Request) -> web.Response:
    """Describe all of this to machines."""
    return web.Response(body=request.app[CONTEXT].openapi, headers=JSON_HEADERS)


async def metrics_text(request: web.Request) -> web.Response:
    """Expose every series in Prometheus' text format."""
    context = request.app[CONTEXT]
    if not context.settings.metrics_open:
        authorize(request, context)
    headers = {**JSON_HEADERS, "Content-Type": CONTENT_TYPE}
    return web.Response(body=context.metrics.render(), headers=headers)


async def page_html(page: Page, request: web.Request) -> web.Response:
    """Show the page; what is on it comes from `/status`."""
    check_host(request, request.app[CONTEXT].settings)
    return web.Response(body=page.body, headers=page.headers)


async def status(recent: Recent, request: web.Request) -> web.Response:
    """Say how the pool is doing, and what the caller's own runs did lately."""
    context = request.app[CONTEXT]
    tenant = authorize(request, context)
    check_host(request, context.settings)
    body = render_status(context.service, recent, tenant, context.limits.languages)
    return web.Response(body=body, headers={**JSON_HEADERS, "Cache-Control": "no-store"})


def authorize(request: web.Request, context: Context) -> str:
    """Return the caller's tenant, `""` where the server is open; raise `RequestError` 401."""
    keyring = context.settings.api_keys
    if not keyring:
        return ""
    tenant = keyring.tenant(request.headers.get("Authorization"))
    if tenant is None:
        raise RequestError(
            HTTPStatus.UNAUTHORIZED,
            "unauthorized",
            "an API key is needed: Authorization: Bearer …",
            WWW_Authenticate="Bearer",
        )
    return tenant
