"""What is known about one request, and where it goes once the request is answered."""

from __future__ import annotations

import itertools
import logging
import secrets
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING

from aiohttp import web

from pgexec import log
from pgexec.errors import problem_of
from pgexec.metrics import METHODS
from pgexec.pool_metrics import OTHER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pgexec.errors import Problem
    from pgexec.metrics import Metrics
    from pgexec.recent import Recent
    from pgexec.service import Outcome, Trace
    from pgexec.tracing import Tracer

    Answered = Callable[[web.BaseRequest, web.StreamResponse], None]

logger = logging.getLogger("pgexec.request")

MAX_ID_CHARS = 128
_MAX_PATH_CHARS = 200
POLLED = "/status"
"""Every open page asks for it once a second; the log has that at `debug` only."""
GONE = 499
"""nginx's number for a client that did not wait for its answer."""

_process = secrets.token_hex(6)
_numbers = itertools.count(1)


@dataclass(slots=True)
class Record:
    """A request's id and, as they become known, its tenant, its run and its error's code.

    `status` is how the request ended where the answer's own status was sent before that.
    `began` is of `time.perf_counter`: the clock of uvloop ticks in milliseconds.
    """

    id: str
    tenant: str = ""
    language: str = ""
    trace: Trace | None = None
    outcome: Outcome | None = None
    code: str | None = None
    status: int | None = None
    began: float = field(default_factory=time.perf_counter)

    def sign(self, response: web.StreamResponse) -> None:
        """Put the request's id, and where the time went until now, on an answer."""
        headers = response.headers
        headers["X-Request-ID"] = self.id
        headers["Server-Timing"] = ", ".join(
            f"{name};dur={seconds * 1000:.3f}"
            for name, seconds in self.times(time.perf_counter() - self.began)
        )

    def times(self, total_s: float) -> Iterator[tuple[str, float]]:
        """Yield what took how many seconds, as far as it happened; see `Trace`."""
        if (trace := self.trace) is not None:
            if trace.queue_s is not None:
                yield "queue", trace.queue_s
            if trace.start_s is not None:
                yield "start", trace.start_s
            if trace.install_s is not None:
                yield "install", trace.install_s
            if trace.lease_s is not None:
                yield "lease", trace.lease_s
            if trace.run_s is not None:
                yield "run", trace.run_s
        yield "total", total_s

    def fail(self, error: BaseException) -> Problem:
        """Return the answer to an error, noting its code, and log what is a bug of ours."""
        problem = problem_of(error)
        self.code = problem.code
        if problem.status == HTTPStatus.INTERNAL_SERVER_ERROR:
            fields = {"request_id": self.id}
            logger.error("unexpected error", exc_info=error, extra={"fields": fields})
        return problem


RECORD = web.RequestKey("record", Record)


def request_id(sent: str | None) -> str:
    """Take over the client's id if it is short and printable ASCII, else make one up."""
    if sent and len(sent) <= MAX_ID_CHARS and sent.isascii() and sent.isprintable():
        return sent
    return f"{_process}-{next(_numbers):x}"


class Reporter:
    """Counts each answer and logs one line for it, after the answer has been written.

    `recent`, where there is one, keeps the last runs for the page, and `tracer` makes spans.
    """

    def __init__(
        self,
        metrics: Metrics,
        paths: frozenset[str],
        recent: Recent | None,
        tracer: Tracer | None = None,
    ) -> None:
        self._metrics = metrics
        self._paths = paths
        self._recent = recent
        self._tracer = tracer

    def answered(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        """Report an answer that has just been written."""
        record = request[RECORD]
        seconds = time.perf_counter() - record.began
        status = response.status if record.status is None else record.status
        self._count(request, status, seconds)
        if self._recent is not None:
            self._recent.ended(record, seconds)
        if record.outcome is not None:
            result = record.outcome.result
            self._metrics.ran(record.language, result.status, seconds, result.duration_s)
            self._metrics.took(result.peak_memory_bytes)
        polled = request.path == POLLED and status == HTTPStatus.OK
        level = logging.DEBUG if polled else logging.INFO
        if logger.isEnabledFor(level):
            self._log(request, record, status, seconds, level)
        if self._tracer is not None:
            self._tracer.answered(request, record, status, seconds)

    def gone(self, request: web.BaseRequest) -> None:
        """Report a client that hung up before its answer."""
        record = request[RECORD]
        record.code = "client_gone"
        seconds = time.perf_counter() - record.began
        self._count(request, GONE, seconds)
        if self._recent is not None:
            self._recent.ended(record, seconds)
        self._log(request, record, GONE, seconds)
        if self._tracer is not None:
            self._tracer.answered(request, record, GONE, seconds)

    def _count(self, request: web.BaseRequest, status: int, seconds: float) -> None:
        path = request.path if request.path in self._paths else OTHER
        self._metrics.answered(path, status, seconds)

    def _log(
        self,
        request: web.BaseRequest,
        record: Record,
        status: int,
        seconds: float,
        level: int = logging.INFO,
    ) -> None:
        fields: dict[str, object] = {
            "request_id": record.id,
            "method": request.method if request.method in METHODS else OTHER,
            "path": request.path[:_MAX_PATH_CHARS],
            "status": status,
        }
        for name, part_s in record.times(seconds):
            fields["ms" if name == "total" else f"{name}_ms"] = round(part_s * 1000, 3)
        if record.tenant:
            fields["tenant"] = record.tenant
        if record.code is not None:
            fields["code"] = record.code
        if record.outcome is not None:
            fields["run_status"] = record.outcome.result.status.value
        if (trace := record.trace) is not None and trace.container_id is not None:
            fields["source"] = trace.source
            fields["container"] = trace.container_id[:12]
        log.event(logger, level, "request", fields)
