"""OpenTelemetry traces, if `pgexec[otel]` is installed and an OTLP endpoint is set.

A request's spans are made from its record after its answer has been written: so tracing delays no
answer. A thread of the SDK sends them in batches. The SDK reads its settings from its own `OTEL_…`
variables. The names of attributes follow
https://opentelemetry.io/docs/specs/semconv/http/http-spans/.
"""

from __future__ import annotations

import asyncio
import threading
import time
from http import HTTPStatus
from typing import TYPE_CHECKING

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.propagate import extract
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

from pgexec.http.paths import route_path
from pgexec.telemetry.labels import METHODS, known
from pgexec.telemetry.metrics import version
from pool.observer import Source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiohttp import web

    from pgexec.http.record import Record
    from pgexec.service import Timings

FLUSH_S = 2.0
"""At its end the server waits so many seconds for a receiver to take the last spans."""
_MAX_PATH_CHARS = 200


class Tracer:
    """Makes the spans of requests and sends them; `close` sends the last ones."""

    def __init__(self, paths: frozenset[str]) -> None:
        self._paths = paths
        own = {"service.name": "pgexec", "service.version": version()}
        # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES come last, and win.
        resource = Resource.create(own).merge(OTELResourceDetector().detect())
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("pgexec")

    def answered(
        self, request: web.BaseRequest, record: Record, status: int, total_s: float
    ) -> None:
        """Make the spans of a request that ended just now, `total_s` seconds after it came."""
        ended_at = time.perf_counter()
        to_epoch_s = time.time() - ended_at

        def nanoseconds(at: float) -> int:
            return int((to_epoch_s + at) * 1e9)

        method = known(request.method, METHODS)
        path = route_path(request.path)
        named = path in self._paths
        span = self._tracer.start_span(
            f"{method} {path}" if named else method,
            context=extract(request.headers),
            kind=SpanKind.SERVER,
            start_time=nanoseconds(record.began),
            attributes={
                "http.request.method": method,
                "http.response.status_code": status,
                "url.path": path[:_MAX_PATH_CHARS],
                "url.scheme": "http",
                **({"http.route": path} if named else {}),
                **dict(_attributes(record)),
            },
        )
        if span.is_recording():
            if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                span.set_status(Status(StatusCode.ERROR))
            within = set_span_in_context(span)
            for timings in (record.timings, *(run.timings for run in record.runs)):
                for name, began, seconds in parts(timings, ended_at) if timings else ():
                    part = self._tracer.start_span(name, within, start_time=nanoseconds(began))
                    part.end(nanoseconds(began + seconds))
        span.end(nanoseconds(record.began + total_s))

    async def close(self) -> None:
        """Send the last spans, unless nobody takes them for `FLUSH_S` seconds."""
        # A daemon thread ends with the process, even if the receiver hangs.
        flush = threading.Thread(target=self._provider.shutdown, name="send spans", daemon=True)
        flush.start()
        await asyncio.to_thread(flush.join, FLUSH_S)


def parts(timings: Timings, ended_at: float) -> Iterator[tuple[str, float, float]]:
    """Yield each step of a run: its name, its begin (of `time.perf_counter`), and its seconds.

    `install` is the wait for dependencies. `queue` is the wait for a container in use by others,
    `start` the wait for a container that had to start. `run` is the snippet.
    """
    if timings.install_s is not None and timings.install_at is not None:
        yield "install", timings.install_at, timings.install_s
    if timings.queue_s:
        leased_at = ended_at if timings.lease_at is None else timings.lease_at
        name = "start" if timings.source == Source.STARTED else "queue"
        yield name, leased_at - timings.queue_s, timings.queue_s
    if timings.run_s is not None and timings.lease_at is not None:
        yield "run", timings.lease_at, timings.run_s


def _attributes(record: Record) -> Iterator[tuple[str, str]]:
    yield "pgexec.request_id", record.id
    if record.tenant:
        yield "pgexec.tenant", record.tenant
    if record.code is not None:
        yield "error.type", record.code
    if record.result is not None:
        yield "pgexec.run.status", record.result.status.value
    if (timings := record.timings) is not None and timings.container_id is not None:
        yield "container.id", timings.container_id
        yield "pgexec.lease.source", str(timings.source)
