"""One table: an error -> HTTP status, word for machines, sentence."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from pydantic_core import to_json

from pool import errors as pool

if TYPE_CHECKING:
    from collections.abc import Mapping

JSON_HEADERS = {"Content-Type": "application/json; charset=utf-8", "Server": "pgexec"}
MAX_LINE_BYTES = 8190
"""The limit on the request line. The limit on a header is one byte more: so the error tells which
of the two was too long."""
MAX_FIELD_BYTES = MAX_LINE_BYTES + 1
CLOSING = frozenset({408, 413, 414, 431})
"""After these the connection is closed: the next bytes on it may not be a request."""
COME_BACK = frozenset({429, 503})
"""Answers with these have `Retry-After`: nothing has run, so that a client, or a proxy, may ask
again. What has begun and was lost is a 502."""
NEUTRAL = "something went wrong inside pgexec; its log knows more under this request's id"


@dataclass(frozen=True, slots=True)
class Problem:
    """An answer other than 200. Every error is turned into one."""

    status: int
    code: str
    sentence: str
    headers: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""

    @property
    def body(self) -> bytes:
        """The answer's body, `{"data": null, "error": …, "code": …}`, with its reason if any."""
        return to_json(self._document())

    def response(self) -> web.Response:
        """Return the answer."""
        headers = {**JSON_HEADERS, **self.headers}
        response = web.Response(status=self.status, body=self.body, headers=headers)
        if self.status in CLOSING:
            response.force_close()
        return response

    def event(self) -> bytes:
        """Return the same document for a stream, with the status and `Retry-After` of the head."""
        document = {**self._document(), "status": self.status}
        if "Retry-After" in self.headers:
            document["retry_after_s"] = int(self.headers["Retry-After"])
        return to_json(document)

    def _document(self) -> dict[str, object]:
        document: dict[str, object] = {"data": None, "error": self.sentence, "code": self.code}
        return {**document, "reason": self.reason} if self.reason else document


class RequestError(Exception):
    """The server refuses a request before anything runs."""

    def __init__(self, status: int, code: str, sentence: str, **headers: str) -> None:
        super().__init__(sentence)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.problem = Problem(status, code, sentence, named)


POOL: tuple[tuple[type[pool.PoolError], int, str], ...] = (
    (pool.PoolClosed, 503, "draining"),
    (pool.LeaseTimeout, 503, "lease_timeout"),
    (pool.TenantSaturated, 429, "too_many_runs"),
    (pool.SessionsSaturated, 503, "too_many_sessions"),
    (pool.PoolSaturated, 503, "saturated"),
    (pool.InstallError, 422, "install_failed"),
    (pool.NoRoom, 413, "files_too_large"),
    (pool.LayerMissing, 503, "layer_missing"),
    (pool.ImageMissing, 503, "image_missing"),
    (pool.ContainerLost, 503, "container_lost"),
    (pool.EngineUnavailable, 503, "engine_unavailable"),
    (pool.EngineError, 503, "engine_error"),
    (pool.PreimportRefused, 503, "preimport_refused"),
    (pool.RunnerProtocolError, 503, "runner_error"),
)
"""Child classes come before their parents: the first match counts. If the snippet had begun, the
status is 502."""

SESSION: tuple[tuple[type[pool.PoolError], int, str], ...] = (
    (pool.SessionUnknown, 404, "no_session"),
    (pool.SessionEnded, 410, "session_ended"),
    (pool.SessionBusy, 409, "session_busy"),
    (pool.NotWritten, 400, "invalid_file"),
)
"""The same for errors that only sessions have."""

_MORE = (
    "a higher PGEXEC_POOL_MAX_CONTAINERS or a lower PGEXEC_RUN_TIMEOUT_S would help, and an API "
    "key for each client keeps them apart"
)
HINTS: Mapping[str, str] = {
    "too_many_runs": "PGEXEC_TENANT_MAX_RUNNING says how many",
    "saturated": _MORE,
    "lease_timeout": _MORE,
}
"""What an operator may change, by the code of an error of the pool."""

HTTP: Mapping[int, tuple[str, str]] = {
    400: ("bad_request", "the request is not HTTP/1.1 as it should be"),
    404: ("not_found", "there is nothing here; POST /run runs code"),
    405: ("method_not_allowed", "the method is not allowed here"),
    408: ("request_timeout", "the request did not arrive in time"),
    411: ("length_required", "the request needs a Content-Length"),
    413: ("body_too_large", "the body is too large"),
    414: ("uri_too_long", f"the request line is over the limit of {MAX_LINE_BYTES} bytes"),
    417: ("expectation_failed", "the only expectation that can be met is 100-continue"),
    431: ("header_too_large", "the request's headers are too large or too many"),
}


def problem_of(error: BaseException) -> Problem:
    """Translate an exception. An exception in no table becomes a 500 that tells no details."""
    if isinstance(error, RequestError):
        return error.problem
    if isinstance(error, pool.PoolError):
        return _pool_problem(error)
    if isinstance(error, web.HTTPException):
        return _http_problem(error)
    if isinstance(error, HttpProcessingError):
        return _parser_problem(error)
    return Problem(500, "internal", NEUTRAL)


def _pool_problem(error: pool.PoolError) -> Problem:
    table = (*SESSION, *POOL)
    known = ((status, code) for kind, status, code in table if isinstance(error, kind))
    status, code = next(known, (500, "internal"))
    if error.begun and status in COME_BACK:
        status = HTTPStatus.BAD_GATEWAY
    sentence = str(error)
    if isinstance(error, pool.InstallError) and error.log:
        sentence = f"{sentence}\n{error.log}"
    if code in HINTS and "; " not in sentence:  # else it has named another cause
        sentence = f"{sentence}; {HINTS[code]}"
    headers = {}
    if status in COME_BACK:
        wait_s = error.retry_after_s if isinstance(error, pool.PoolSaturated) else 1.0
        headers["Retry-After"] = str(max(1, math.ceil(min(wait_s, 3600.0))))
    reason = error.reason if isinstance(error, pool.SessionEnded) else ""
    return Problem(status, code, sentence, headers, reason)


def _http_problem(error: web.HTTPException) -> Problem:
    status = error.status
    code, sentence = HTTP.get(status, (f"http_{status}", error.reason))
    headers = {}
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        headers["Allow"] = allowed
        sentence = f"{error.method} is not allowed here, only {allowed}"
    return Problem(status, code, sentence, headers)


def _parser_problem(error: HttpProcessingError) -> Problem:
    status = error.code or 400
    if isinstance(error, LineTooLong):
        status = 414 if str(error.args[1]) == str(MAX_LINE_BYTES) else 431
    elif error.message == "Too many headers received":
        status = 431
    code, sentence = HTTP.get(status, HTTP[400])
    if status == HTTPStatus.BAD_REQUEST:
        # The other lines of the parser's message quote the request.
        detail = error.message.partition("\n")[0].strip().rstrip(":.")
        sentence = f"the request is malformed: {detail or 'not HTTP'}"
    return Problem(status, code, sentence)
