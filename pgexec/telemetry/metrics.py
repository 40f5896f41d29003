"""The metrics of the server: those of requests and runs here, those of other subjects beside.

The pool and the engine know no metrics: they call observers, and the classes here are these
observers. No label takes a value from a client (`labels`). Every series with labels that are
known beforehand exists from the start. A metric is added in three steps:

1. The module of its subject declares the family, in the class that has the `registry`.
   `/metrics` then has it: `Exposition` renders all families of the registry.
2. A method of that class counts the event and has its name. A value that changes without an event
   is read in `refresh`, which `Metrics.render` calls before each scrape.
3. docs/monitoring.md gets a row; a test compares the table with a scrape.

A new subject gets a new module with a class, and `Metrics` makes an object of it.
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

from pgexec.telemetry.canary_metrics import CanaryMetrics
from pgexec.telemetry.demand_metrics import DemandMetrics
from pgexec.telemetry.engine_metrics import EngineMetrics
from pgexec.telemetry.exposition import Exposition
from pgexec.telemetry.labels import OTHER
from pgexec.telemetry.layer_metrics import LayerMetrics
from pgexec.telemetry.pool_metrics import PoolFamilies, PoolMetrics
from pgexec.telemetry.session_metrics import SessionMetrics
from pool.job import Status

BUCKETS_S = (
    *(0.0005, 0.001, 0.0015, 0.002, 0.003, 0.004, 0.006, 0.01, 0.015, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
LAG_BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
PEAK_BYTES = tuple((1 << 20) * size for size in (8, 16, 32, 64, 128, 256, 512, 1024, 4096, 16384))

disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """All series of the server, in a `registry` of their own.

    `engine` and `layers` are observers of the engine and the layers; `pool` makes an observer for
    each pool. `pgexec/app.py` connects `canary` and `demand`. `profiles` are the pools' names,
    `server` is the server's.
    """

    def __init__(self, profiles: tuple[str, ...] = ("python",), server: str = "") -> None:
        self.registry = registry = CollectorRegistry()
        self._exposition = Exposition(registry)
        ProcessCollector(registry=registry)
        Gauge(
            "pgexec_build_info",
            "The version that runs and the server's name, always 1",
            ["python", "version", "server"],
            registry=registry,
        ).labels(platform.python_version(), version(), server).set(1)
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
        self.demand = DemandMetrics(registry)
        self.sessions = SessionMetrics(registry, profiles)

    def pool(self, profile: str) -> PoolMetrics:
        """Return the observer of a pool; its name, `profile`, labels its series."""
        if profile not in self._pools:
            self._pools[profile] = PoolMetrics(self._pool_families, profile)
        return self._pools[profile]

    def ran(self, profile: str, status: Status, request_s: float, run_s: float) -> None:
        """Count a run that was answered, `request_s` seconds after its request had come."""
        runs = self._runs.get((profile, status)) or self._runs[OTHER, status]
        runs.inc()
        self._run_s.observe(run_s)
        self._overhead_s.observe(max(0.0, request_s - run_s))

    def answered(self, path: str, status: int, seconds: float) -> None:
        """Count an answer; `path` is one of the server's paths, or `other`."""
        answers = self._answers.get((path, status))
        if answers is None:
            answers = self._answers[path, status] = self._requests.labels(path, str(status))
        answers.inc()
        if path == "/run":
            self._request_s.observe(seconds)

    def render(self) -> bytes:
        """Return everything in Prometheus' text format."""
        self.engine.refresh()
        self.sessions.refresh()
        for pool in self._pools.values():
            pool.refresh()
        return self._exposition.render()


def version() -> str:
    """Return the installed version of pgexec."""
    try:
        return metadata.version("pgexec")
    except metadata.PackageNotFoundError:
        return "unknown"
