"""What is known about one request, and where it goes once the request is answered."""

from __future__ import annotations

import itertools
import logging
import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aiohttp import web

from pgexec import log
from pgexec.metrics import METHODS, OTHER

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgexec.metrics import Metrics
    from pgexec.service import Outcome

    Answered = Callable[[web.BaseRequest, web.StreamResponse], None]

logger = logging.getLogger("pgexec.request")

MAX_ID_CHARS = 128
_MAX_PATH_CHARS = 200
_GONE = 499  # nginx's number for a client that did not wait for its answer

_process = secrets.token_hex(6)
_numbers = itertools.count(1)


@dataclass(slots=True)
class Record:
    """A request's id and, as they become known, its tenant, its run and its error's code.

    `began` is of `time.perf_counter`: the clock of uvloop ticks in milliseconds.
    """

    id: str
    tenant: str = ""
    language: str = ""
    outcome: Outcome | None = None
    code: str | None = None
    began: float = field(default_factory=time.perf_counter)


RECORD = web.RequestKey("record", Record)


def request_id(sent: str | None) -> str:
    """Take over the client's id if it is short and printable ASCII, else make one up."""
    if sent and len(sent) <= MAX_ID_CHARS and sent.isascii() and sent.isprintable():
        return sent
    return f"{_process}-{next(_numbers):x}"


class Reporter:
    """Counts each answer and logs one line for it, after the answer has been written."""

    def __init__(self, metrics: Metrics, paths: frozenset[str]) -> None:
        self._metrics = metrics
        self._paths = paths

    def answered(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        """Report an answer that has just been written."""
        record = request[RECORD]
        seconds = time.perf_counter() - record.began
        self._count(request, response.status, seconds)
        if record.outcome is not None:
            result = record.outcome.result
            self._metrics.ran(record.language, result.status, seconds, result.duration_s)
        if logger.isEnabledFor(logging.INFO):
            self._log(request, record, response.status, seconds)

    def gone(self, request: web.BaseRequest) -> None:
        """Report a client that hung up before its answer."""
        record = request[RECORD]
        record.code = "client_gone"
        seconds = time.perf_counter() - record.began
        self._count(request, _GONE, seconds)
        self._log(request, record, _GONE, seconds)

    def _count(self, request: web.BaseRequest, status: int, seconds: float) -> None:
        path = request.path if request.path in self._paths else OTHER
        self._metrics.answered(path, status, seconds)

    def _log(self, request: web.BaseRequest, record: Record, status: int, seconds: float) -> None:
        fields: dict[str, object] = {
            "request_id": record.id,
            "method": request.method if request.method in METHODS else OTHER,
            "path": request.path[:_MAX_PATH_CHARS],
            "status": status,
            "ms": round(seconds * 1000, 3),
        }
        if record.tenant:
            fields["tenant"] = record.tenant
        if record.code is not None:
            fields["code"] = record.code
        if (outcome := record.outcome) is not None:
            fields["run_status"] = outcome.result.status.value
            fields["run_ms"] = round(outcome.result.duration_s * 1000, 3)
            fields["wait_ms"] = round(outcome.waited_s * 1000, 3)
            fields["source"] = outcome.source
            fields["container"] = outcome.container_id[:12]
        log.event(logger, logging.INFO, "request", fields)
