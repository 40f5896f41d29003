"""Counts each answered request, logs it, keeps it for the page and traces it."""

from __future__ import annotations

import logging
import time
from http import HTTPStatus
from typing import TYPE_CHECKING

from pgexec.http.paths import route_path
from pgexec.http.record import GONE, RECORD
from pgexec.telemetry import log
from pgexec.telemetry.labels import METHODS, known

if TYPE_CHECKING:
    from aiohttp import web

    from pgexec.http.recent import Recent
    from pgexec.http.record import Record
    from pgexec.http.tracing import Tracer
    from pgexec.telemetry.metrics import Metrics

logger = logging.getLogger("pgexec.request")

_MAX_PATH_CHARS = 200


class Reporter:
    """Counts each answer and logs one line for it, after the answer has been written.

    Requests for `paths` are counted by path, all others as `other`. A 200 to one of `polled` is
    logged at `debug`. `recent` keeps the last runs for the page; `tracer` makes spans. Both may be
    `None`.
    """

    def __init__(
        self,
        metrics: Metrics,
        paths: frozenset[str],
        polled: frozenset[str],
        recent: Recent | None,
        tracer: Tracer | None = None,
    ) -> None:
        self._metrics = metrics
        self._paths = paths
        self._polled = polled
        self._recent = recent
        self._tracer = tracer

    def answered(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        """Report an answer that has just been written."""
        record = request[RECORD]
        seconds = time.perf_counter() - record.began
        status = response.status if record.status is None else record.status
        self._count(request, status, seconds)
        self._keep(record, seconds)
        polled = status == HTTPStatus.OK and request.path in self._polled
        level = logging.DEBUG if polled else logging.INFO
        if logger.isEnabledFor(level):
            self._log(request, record, status, seconds, level)
        if self._tracer is not None:
            self._tracer.answered(request, record, status, seconds)

    def ran(self, request: web.BaseRequest, record: Record) -> None:
        """Report one run of a request with many, which has ended."""
        seconds = time.perf_counter() - record.began
        self._keep(record, seconds)
        status = HTTPStatus.OK if record.result is not None else record.status or 0
        self._log(request, record, status, seconds, name="run")

    def _keep(self, record: Record, seconds: float) -> None:
        if self._recent is not None:
            self._recent.ended(record, seconds)
        if (result := record.result) is not None:
            self._metrics.ran(record.language, result.status, seconds, result.duration_s)
            self._metrics.used_memory(result.peak_memory_bytes)

    def gone(self, request: web.BaseRequest) -> None:
        """Report a client that closed its connection before its answer."""
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
        path = known(route_path(request.path), self._paths)
        self._metrics.answered(path, status, seconds)

    def _log(
        self,
        request: web.BaseRequest,
        record: Record,
        status: int,
        seconds: float,
        level: int = logging.INFO,
        name: str = "request",
    ) -> None:
        fields: dict[str, object] = {
            "request_id": record.id,
            "method": known(request.method, METHODS),
            "path": route_path(request.path)[:_MAX_PATH_CHARS],
            "status": status,
        }
        for step, part_s in record.times(seconds):
            fields["ms" if step == "total" else f"{step}_ms"] = round(part_s * 1000, 3)
        if record.tenant:
            fields["tenant"] = record.tenant
        if record.user:
            fields["user"] = record.user
        if record.code is not None:
            fields["code"] = record.code
        if record.result is not None:
            fields["run_status"] = record.result.status.value
        if (timings := record.timings) is not None and timings.container_id is not None:
            fields["source"] = timings.source
            fields["container"] = timings.container_id[:12]
        log.event(logger, level, name, fields)
