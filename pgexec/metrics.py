"""What Prometheus gets to see: of the requests, of the engine, and of each pool.

They are watched from outside, through the observers' seams. No label takes a value that a
client makes up, and every series whose labels are known beforehand is there from the start.
docs/monitoring.md lists all of them.
"""

from __future__ import annotations

import platform
from importlib import metadata

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)

from pgexec.canary_metrics import CanaryMetrics
from pgexec.dependency_metrics import LayerMetrics
from pgexec.exposition import Exposition
from pgexec.pool_metrics import OTHER, PoolFamilies, PoolMetrics
from pool.engine import EngineObserver, Failure, Leak, Operation
from pool.job import Status

BUCKETS_S = (
    *(0.0005, 0.001, 0.0015, 0.002, 0.003, 0.004, 0.006, 0.01, 0.015, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
CALL_BUCKETS_S = (0.001, 0.0025, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 120.0)
LAG_BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
PEAK_BYTES = tuple((1 << 20) * size for size in (8, 16, 32, 64, 128, 256, 512, 1024, 4096, 16384))
METHODS = frozenset({"GET", "POST", "HEAD", "OPTIONS"})

disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """All series of the server, in a `registry` of their own.

    `engine` observes the engine, and `pool` makes an observer for each pool.
    """

    def __init__(self, profiles: tuple[str, ...] = ("python",)) -> None:
        self.registry = registry = CollectorRegistry()
        self._exposition = Exposition(registry)
        ProcessCollector(registry=registry)
        Gauge(
            "pgexec_build_info",
            "The version that runs, always 1",
            ["python", "version"],
            registry=registry,
        ).labels(platform.python_version(), version()).set(1)
        self._requests = Counter(
            "pgexec_requests_total",
            "Requests answered, by path and HTTP status",
            ["path", "status"],
            registry=registry,
        )
        self._answers: dict[tuple[str, int], Counter] = {}
        self._request_s = Histogram(
            "pgexec_request_duration_seconds",
            "A request to /run from its head to its answer",
            buckets=BUCKETS_S,
            registry=registry,
        )
        runs = Counter(
            "pgexec_runs_total",
            "Snippets that ran, by how they ended",
            ["profile", "status"],
            registry=registry,
        )
        self._runs = {
            (profile, status): runs.labels(profile, status.value)
            for profile in (*profiles, OTHER)
            for status in Status
        }
        self._run_s = Histogram(
            "pgexec_run_duration_seconds",
            "The snippet alone",
            buckets=BUCKETS_S,
            registry=registry,
        )
        self._overhead_s = Histogram(
            "pgexec_overhead_seconds",
            "A request to /run less its snippet",
            buckets=BUCKETS_S,
            registry=registry,
        )
        self.used_memory = Histogram(
            "pgexec_run_peak_memory_bytes",
            "The most memory that a snippet had resident",
            buckets=PEAK_BYTES,
            registry=registry,
        ).observe
        self.lagged = Histogram(
            "pgexec_event_loop_lag_seconds",
            "How late a timer of the event loop was",
            buckets=LAG_BUCKETS_S,
            registry=registry,
        ).observe
        self.engine = EngineMetrics(registry)
        self.layers = LayerMetrics(registry)
        self.canary = CanaryMetrics(registry)
        self._pool_families = PoolFamilies(registry, BUCKETS_S)
        self._pools: dict[str, PoolMetrics] = {}

    def pool(self, profile: str) -> PoolMetrics:
        """Return the observer of the pool that has this name; `profile` labels its series."""
        if profile not in self._pools:
            self._pools[profile] = PoolMetrics(self._pool_families, profile)
        return self._pools[profile]

    def ran(self, profile: str, status: Status, request_s: float, run_s: float) -> None:
        """Count a run that was answered, `request_s` after its request had come."""
        runs = self._runs.get((profile, status)) or self._runs[OTHER, status]
        runs.inc()
        self._run_s.observe(run_s)
        self._overhead_s.observe(max(0.0, request_s - run_s))

    def answered(self, path: str, status: int, seconds: float) -> None:
        """Count an answer; `path` is one of the server's own, or `other`."""
        answers = self._answers.get((path, status))
        if answers is None:
            answers = self._answers[path, status] = self._requests.labels(path, str(status))
        answers.inc()
        if path == "/run":
            self._request_s.observe(seconds)

    def render(self) -> bytes:
        """Return everything in Prometheus' text format."""
        self.engine.refresh()
        for pool in self._pools.values():
            pool.refresh()
        return self._exposition.render()


class EngineMetrics(EngineObserver):
    """What the engine was asked, how long it took, and what went through its streams."""

    def __init__(self, registry: CollectorRegistry) -> None:
        call_s = Histogram(
            "pgexec_engine_call_duration_seconds",
            "Calls of the container engine, however they ended",
            ["operation"],
            buckets=CALL_BUCKETS_S,
            registry=registry,
        )
        errors = Counter(
            "pgexec_engine_errors_total",
            "Calls of the container engine that failed",
            ["operation", "reason"],
            registry=registry,
        )
        leaked = Counter(
            "pgexec_leaked_containers_total",
            "Containers that nothing but the sweep would have removed",
            ["kind"],
            registry=registry,
        )
        self._received = Counter(
            "pgexec_stream_received_bytes_total",
            "Bytes that came from containers' streams",
            registry=registry,
        )
        self._sent = Counter(
            "pgexec_stream_sent_bytes_total",
            "Bytes that were sent to containers' streams",
            registry=registry,
        )
        self._counted_received = self._counted_sent = 0
        self._call_s = {operation: call_s.labels(operation) for operation in Operation}
        self._errors = {
            (operation, failure): errors.labels(operation, failure)
            for operation in Operation
            for failure in Failure
        }
        self._leaked = {leak: leaked.labels(leak) for leak in Leak}

    def called(self, operation: Operation, seconds: float, failure: Failure | None) -> None:
        """Count a call, and its failure."""
        self._call_s[operation].observe(seconds)
        if failure is not None:
            self._errors[operation, failure].inc()

    def leaked(self, leak: Leak) -> None:
        """Count a container that the sweep found."""
        self._leaked[leak].inc()

    def refresh(self) -> None:
        """Take over what the streams have added up."""
        self._received.inc(self.received_bytes - self._counted_received)
        self._sent.inc(self.sent_bytes - self._counted_sent)
        self._counted_received, self._counted_sent = self.received_bytes, self.sent_bytes


def version() -> str:
    """Return the version of pgexec that is installed."""
    try:
        return metadata.version("pgexec")
    except metadata.PackageNotFoundError:
        return "unknown"
