"""Prometheus collectors. They watch the pool from outside, through its observer seam."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import TYPE_CHECKING

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from pool.container import State
from pool.job import Status
from pool.observer import Observer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pool.job import ResetReport
    from pool.observer import Rejection, Snapshot, Source
    from pool.policy import Reason

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS_S = (
    *(0.0005, 0.001, 0.0015, 0.002, 0.003, 0.004, 0.006, 0.01, 0.015, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
USES = (1, 2, 5, 10, 25, 50, 100, 250, 1000)
METHODS = frozenset({"GET", "POST", "HEAD", "OPTIONS"})
OTHER = "other"

disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics(Observer):
    """All series of the server in a registry of their own; implements the pool's observer.

    No label takes a value that a client makes up. Children of labelled series are bound
    beforehand where a request touches them.
    """

    def __init__(self, languages: tuple[str, ...] = ("python",)) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._runs_of(languages)
        self._pool()
        info = Gauge(
            "pgexec_build_info",
            "The version that runs, always 1",
            ["version", "python"],
            registry=self.registry,
        )
        info.labels(_version(), platform.python_version()).set(1)

    def _runs_of(self, languages: tuple[str, ...]) -> None:
        runs = Counter(
            "pgexec_runs",
            "Snippets that ran, by how they ended",
            ["language", "status"],
            registry=self.registry,
        )
        self._runs = {
            (language, status): runs.labels(language, status.value)
            for language in languages
            for status in Status
        }
        self._requests = Counter(
            "pgexec_requests",
            "Requests answered, by path and HTTP status",
            ["path", "status"],
            registry=self.registry,
        )
        self._request_children: dict[tuple[str, int], Counter] = {}
        self._request_s = self._histogram(
            "pgexec_request_duration_seconds", "A request to /run from its head to its answer"
        )
        self._run_s = self._histogram("pgexec_run_duration_seconds", "The snippet alone")
        self._overhead_s = self._histogram(
            "pgexec_overhead_seconds", "A request to /run less its snippet"
        )

    def _pool(self) -> None:
        self._wait_s = self._histogram(
            "pgexec_lease_wait_seconds", "Waiting for a container that was leased in the end"
        )
        self._leases = self._counter("pgexec_leases", "Leases by where they came from", "source")
        self._rejections = self._counter("pgexec_rejections", "Leases that were refused", "reason")
        self._starts = self._counter("pgexec_container_starts", "Containers started")
        self._start_s = self._histogram(
            "pgexec_container_start_seconds", "From the engine's create to a ready runner"
        )
        self._start_failures = self._counter(
            "pgexec_container_start_failures", "Containers that did not start", "reason"
        )
        self._resets = self._counter("pgexec_container_resets", "Resets by outcome", "outcome")
        self._resets_clean = self._resets.labels("clean")
        self._resets_dirty = self._resets.labels("dirty")
        self._reset_s = self._histogram(
            "pgexec_container_reset_seconds", "From the end of a run to the runner's report"
        )
        self._recycled = self._counter(
            "pgexec_container_recycled", "Containers that went back to idle after a run"
        )
        self._destroyed = self._counter(
            "pgexec_container_destroyed", "Containers destroyed", "reason"
        )
        self._uses = Histogram(
            "pgexec_container_uses",
            "Runs that a container had served when it was destroyed",
            buckets=USES,
            registry=self.registry,
        )

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str) -> Histogram:
        return Histogram(name, text, buckets=BUCKETS_S, registry=self.registry)

    def watch(self, snapshot: Callable[[], Snapshot]) -> None:
        """Read the pool's states and its queue whenever somebody scrapes."""
        self.registry.register(_PoolCollector(snapshot))

    def ran(self, language: str, status: Status, request_s: float, run_s: float) -> None:
        """Count a run that was answered, `request_s` after its request had come."""
        self._runs[language, status].inc()
        self._run_s.observe(run_s)
        self._overhead_s.observe(max(0.0, request_s - run_s))

    def answered(self, path: str, status: int, seconds: float) -> None:
        """Count an answer; `path` is one of the server's own, or `other`."""
        child = self._request_children.get((path, status))
        if child is None:
            child = self._requests.labels(path, str(status))
            self._request_children[path, status] = child
        child.inc()
        if path == "/run":
            self._request_s.observe(seconds)

    def render(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self.registry)

    # --- the pool's observer ---

    def started(self, seconds: float) -> None:
        """Count a container whose runner is ready."""
        self._starts.inc()
        self._start_s.observe(seconds)

    def start_failed(self, kind: str) -> None:
        """Count a container that did not become ready."""
        self._start_failures.labels(kind).inc()

    def leased(self, source: Source, waited_s: float) -> None:
        """Count a lease and how long it took to get."""
        self._leases.labels(source).inc()
        self._wait_s.observe(waited_s)

    def rejected(self, reason: Rejection) -> None:
        """Count a lease that the pool refused."""
        self._rejections.labels(reason).inc()

    def reset(self, seconds: float, report: ResetReport) -> None:
        """Count a reset, clean or not."""
        (self._resets_clean if report.clean else self._resets_dirty).inc()
        self._reset_s.observe(seconds)

    def recycled(self) -> None:
        """Count a container that is idle again after a run."""
        self._recycled.inc()

    def destroyed(self, reason: Reason, uses: int) -> None:
        """Count a container that is destroyed after so many runs."""
        self._destroyed.labels(reason).inc()
        self._uses.observe(uses)


class _PoolCollector(Collector):
    def __init__(self, snapshot: Callable[[], Snapshot]) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[GaugeMetricFamily]:
        containers = GaugeMetricFamily("pgexec_containers", "Containers by state", labels=["state"])
        now = self._snapshot()
        for state in State:
            containers.add_metric([state.value], getattr(now, state.value))
        yield containers
        yield GaugeMetricFamily(
            "pgexec_waiters", "Requests that wait for a container", value=now.waiting
        )


def _version() -> str:
    try:
        return metadata.version("pgexec")
    except metadata.PackageNotFoundError:
        return "unknown"
