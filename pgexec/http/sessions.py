"""The routes of sessions: open one, run cells in it, look at it, delete it."""

from __future__ import annotations

import select
import time
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from aiohttp import web
from pydantic_core import to_json

from pgexec.http.access import check_host, name_user, with_key, with_own_name
from pgexec.http.answering import render, with_fields
from pgexec.http.answers import LONG_BYTES, describe, without_output
from pgexec.http.body import check_json, keep, read_body, small_body
from pgexec.http.delivery import deliver
from pgexec.http.errors import JSON_HEADERS
from pgexec.http.excerpt import parse_body
from pgexec.http.limits import check_seconds
from pgexec.http.openapi import (
    CELL_ANSWER,
    RouteDescription,
    body_of,
    json_answer,
    no_content,
    path_parameter,
    reference,
)
from pgexec.http.output_files import list_files, render_files
from pgexec.http.parsing import OPENING, cell_of, parse_run
from pgexec.http.record import GONE, LEAVING, RECORD, SENDER
from pgexec.http.sse import answer_with_events, wants_events
from pgexec.http.texts import decoded, json_text, json_value
from pgexec.service import Timings
from pgexec.session_contract import (
    CellRequest,
    OpenedSession,
    OpenRequest,
    SessionState,
    SessionStates,
)
from pool.errors import PoolClosed, SessionEnd
from pool.shown import Showing
from pool.turns import rounds

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from pgexec.contract import RunRequest
    from pgexec.http.answering import Event
    from pgexec.http.delivery import Document
    from pgexec.http.openapi import Described
    from pgexec.http.parsing import BodyForm
    from pgexec.http.record import Record
    from pgexec.http.routes import Context
    from pgexec.service import Progress
    from pgexec.sessions import HeldSession, SessionService
    from pool.job import Result
    from pool.shown import RichDisplay

    Handler = Callable[[web.Request, str], Awaitable[web.StreamResponse]]
    Expect = Callable[[web.Request], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Api:
    """The objects that these handlers share."""

    context: Context
    service: SessionService


API = web.AppKey("sessions", Api)


async def open_session(request: web.Request, tenant: str = "") -> web.StreamResponse:
    """Open a session."""
    api, record = request.app[API], request[RECORD]
    settings = api.context.settings
    wanted = await _read(request, tenant, OPENING)
    idle_s = wanted.idle_timeout_s if isinstance(wanted, OpenRequest) else None
    if idle_s is not None:
        check_seconds("idle_timeout_s", idle_s, settings.session_idle_s)
    record.language, record.timings = wanted.language, Timings()
    if request.app[SENDER].leaving:
        # A run may end in the time that is left; a session would be lost. Another server keeps it.
        raise PoolClosed(LEAVING)
    entry = await api.service.open(
        wanted, idle_s or settings.session_idle_s, record.holder, record.timings
    )
    fields = {
        "id": entry.id,
        "language": entry.language,
        "expires_in_s": _rounded(entry.session.expires_in_s),
    }
    if _has_left(request):  # nobody would know the id, and the session stay until it is idle
        entry.session.end(SessionEnd.DELETED)
        record.code, record.status = "client_gone", GONE
    headers = {**JSON_HEADERS, "Location": f"/sessions/{entry.id}"}
    return web.Response(status=HTTPStatus.CREATED, body=to_json(fields), headers=headers)


async def run_cell(request: web.Request, tenant: str = "") -> web.StreamResponse:
    """Run a cell."""
    api, record = request.app[API], request[RECORD]
    record.tenant = tenant
    entry = _find(request)
    wanted = await _read(request, tenant, cell_of(entry.language))
    entry = _find(request)  # it may have ended while the body came, or be another user's
    answers = api.context.answers
    if wants_events(", ".join(request.headers.getall("Accept", ()))):
        return await answer_with_events(
            request, partial(_answer_events, api, record, entry, wanted), answers
        )
    result, document = await _answer(api, record, entry, wanted)
    if wanted.collect:
        document = with_fields(document, *list_files(result, await render_files(result)))
    return await deliver(request, document, answers)


async def show_session(request: web.Request, tenant: str = "") -> web.StreamResponse:
    """Return a session's state."""
    request[RECORD].tenant = tenant
    return _json(_state(_find(request)))


async def list_sessions(request: web.Request, tenant: str = "") -> web.StreamResponse:
    """Return the states of the caller's sessions."""
    request[RECORD].tenant = tenant
    entries = request.app[API].service.of(tenant)
    return _json({"sessions": [_state(entry) for entry in entries]})


async def delete_session(request: web.Request, tenant: str = "") -> web.StreamResponse:
    """End a session."""
    request[RECORD].tenant = tenant
    _find(request).session.end(SessionEnd.DELETED)
    return web.Response(status=HTTPStatus.NO_CONTENT, headers={"Server": "pgexec"})


def _has_left(request: web.Request) -> bool:
    """Return True if the client has closed its connection, also where the loop does not know yet.

    The kernel does. Of a client that leaves while the answer is on its way, nobody can know.
    """
    transport = request.transport
    if transport is None or transport.is_closing():
        return True
    ends = select.poll()
    ends.register(transport.get_extra_info("socket").fileno(), select.POLLRDHUP)
    return bool(ends.poll(0))


def _find(request: web.Request) -> HeldSession:
    record = request[RECORD]
    name, user = request.match_info["id"], record.user or None
    return request.app[API].service.find(name, record.tenant, user)


async def _read(request: web.Request, tenant: str, form: BodyForm) -> RunRequest:
    """Return the request in a body; note for whom it is."""
    context, record = request.app[API].context, request[RECORD]
    record.tenant = tenant
    check_json(request)
    if "Origin" in request.headers:
        check_host(request, context.settings)
    if (body := small_body(request)) is not None:
        wanted = parse_run(body, context.limits, form=form)
    else:
        settings = context.settings
        with context.bodies.hold(tenant) as held:
            whole = await read_body(request, settings.body_limit, settings.request_timeout_s, held)
            wanted = await parse_body(whole, context.limits, form)
            keep(held, wanted)
    if wanted.user is not None:
        name_user(record, wanted.user, context.settings.trusted_keys)
    return wanted


async def _answer(
    api: Api,
    record: Record,
    entry: HeldSession,
    wanted: RunRequest,
    progress: Progress | None = None,
) -> tuple[Result, Document]:
    """Run a cell; return its result, and the JSON document of that without its files."""
    record.language, record.timings = entry.language, Timings()
    limits = api.context.limits_of[entry.language].of_run(wanted)
    result = await api.service.run(entry, wanted, limits.timeout_s, record.timings, progress)
    record.result = without_output(result)
    document = await render(result, describe(result, limits))
    return result, with_fields(document, *await _shown(result))


async def _answer_events(
    api: Api, record: Record, entry: HeldSession, wanted: RunRequest, progress: Progress
) -> Sequence[Event]:
    """Run a cell, tell `progress`, and return the last events: its files and the result."""
    result, document = await _answer(api, record, entry, wanted, progress)
    if not wanted.collect:
        return ((b"result", document),)
    files = [(b"file", file) for file in await render_files(result)]
    return (*files, (b"result", with_fields(document, *list_files(result, None))))


async def _shown(result: Result) -> Document:
    """Return the fields of what a cell has shown; long ones are made in turns."""
    shown = result.shown or Showing()
    size = sum(len(one.content) for one in shown.displays) + len(shown.value or "")
    if size <= LONG_BYTES:
        displays = [
            {**_head(one), "content": one.content.decode("utf-8", "replace")}
            for one in shown.displays
        ]
        fields = {"value": shown.value, "displays": displays, "restarted": shown.restarted}
        return (b"," + to_json(fields)[1:-1],)
    async with rounds().rendering:
        parts = [b',"value":', *await json_value(shown.value), b',"displays":[']
        for position, one in enumerate(shown.displays):
            head = b"," * bool(position) + to_json(_head(one))[:-1] + b',"content":'
            text = partial(decoded, one.content, "replace")
            parts += (head, *await json_text(text, len(one.content)), b"}")
    return (*parts, b'],"restarted":', to_json(shown.restarted))


def _head(one: RichDisplay) -> dict[str, str]:
    return {"mime": one.mime, "omitted": one.omitted} if one.omitted else {"mime": one.mime}


def _state(entry: HeldSession) -> dict[str, object]:
    session = entry.session
    return {
        "id": entry.id,
        "language": entry.language,
        "expires_in_s": _rounded(session.expires_in_s),
        "state": "busy" if session.busy else "idle",
        "age_s": _rounded(max(0.0, time.time() - entry.began)),
        "runs": session.runs,
    }


def _rounded(seconds: float) -> float:
    return round(seconds, 3)


def _json(fields: object) -> web.Response:
    headers = {**JSON_HEADERS, "Cache-Control": "no-store"}
    return web.Response(body=to_json(fields), headers=headers)


_ID = (path_parameter("id", "The session's id."),)
_ENDED = (404, 410)
_ROWS: tuple[tuple[str, str, Handler, RouteDescription], ...] = (
    (
        "POST",
        "/sessions",
        open_session,
        RouteDescription(
            "Open a session",
            json_answer("It is open.", reference(OpenedSession)),
            (403, 413, 415, 421, 422, 429, 502, 503),
            body_of(OpenRequest, {"language": "python"}),
            status=201,
        ),
    ),
    (
        "GET",
        "/sessions",
        list_sessions,
        RouteDescription(
            "List the living sessions", json_answer("They.", reference(SessionStates)), (421,)
        ),
    ),
    (
        "GET",
        "/sessions/{id}",
        show_session,
        RouteDescription(
            "Look at a session",
            json_answer("Its state.", reference(SessionState)),
            (*_ENDED, 421),
            parameters=_ID,
        ),
    ),
    (
        "DELETE",
        "/sessions/{id}",
        delete_session,
        RouteDescription(
            "End a session",
            no_content("Its container is being destroyed."),
            (*_ENDED, 421),
            status=204,
            parameters=_ID,
        ),
    ),
    (
        "POST",
        "/sessions/{id}/run",
        run_cell,
        RouteDescription(
            "Run a cell in a session",
            CELL_ANSWER,
            (403, *_ENDED, 409, 413, 415, 421, 502, 503),
            body_of(CellRequest, {"code": "x = 41\nx + 1"}),
            parameters=_ID,
        ),
    ),
)
PATHS = frozenset(path for _, path, _, _ in _ROWS)


def describe_sessions(*, keys: bool) -> Sequence[tuple[str, str, Described, bool]]:
    """Return the operations for `describe_api`."""
    return [(method, path, description, keys) for method, path, _, description in _ROWS]


def add_sessions(
    app: web.Application, context: Context, service: SessionService, expect: Expect
) -> None:
    """Add the routes; all of them ask for a key on a server that has some.

    A server without keys answers what has no body by its own names only: no preflight protects it.
    """
    app[API] = Api(context, service)
    keys = context.settings.api_keys
    for method, path, handler, description in _ROWS:
        handle: Any = with_key(handler, keys) if keys else handler
        if not keys and description.body is None:
            handle = with_own_name(handle, context.settings)
        options: dict[str, Any] = {"expect_handler": expect} if description.body else {}
        app.add_routes([web.RouteDef(method, path, handle, options)])
