"""The series of the layers of dependencies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge, Histogram

from pool.errors import InstallFailure
from pool.observer import LayerObserver

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

INSTALL_BUCKETS_S = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0, 300.0)


class LayerMetrics(LayerObserver):
    """Counts what happens to layers."""

    def __init__(self, registry: CollectorRegistry) -> None:
        requests = Counter(
            "pgexec_dependency_requests_total",
            "Runs with dependencies, by whether those were there",
            ["found"],
            registry=registry,
        )
        self._hits, self._misses = requests.labels("yes"), requests.labels("no")
        self._install_s = Histogram(
            "pgexec_dependency_install_seconds",
            "Installations that succeeded",
            buckets=INSTALL_BUCKETS_S,
            registry=registry,
        )
        failures = Counter(
            "pgexec_dependency_install_failures_total",
            "Installations that failed",
            ["reason"],
            registry=registry,
        )
        self._failures = {failure: failures.labels(failure) for failure in InstallFailure}
        self._evictions = Counter(
            "pgexec_dependency_evictions_total",
            "Sets of dependencies that made room for others",
            registry=registry,
        )
        self._damages = Counter(
            "pgexec_dependency_damages_total",
            "Sets of dependencies found changed from outside",
            registry=registry,
        )
        self._sets = Gauge("pgexec_dependency_sets", "Sets of dependencies kept", registry=registry)
        self._bytes = Gauge(
            "pgexec_dependency_bytes", "What they take on the volume", registry=registry
        )

    def hit(self) -> None:
        """Count a run whose dependencies were there."""
        self._hits.inc()

    def missed(self) -> None:
        """Count a run that has to wait for its dependencies."""
        self._misses.inc()

    def installed(self, seconds: float) -> None:
        """Count an installation."""
        self._install_s.observe(seconds)

    def failed(self, failure: InstallFailure) -> None:
        """Count an installation that failed."""
        self._failures[failure].inc()

    def evicted(self) -> None:
        """Count a layer that was removed to make room for others."""
        self._evictions.inc()

    def damaged(self) -> None:
        """Count a layer that something else had changed."""
        self._damages.inc()

    def kept(self, layers: int, size_bytes: int) -> None:
        """Set the gauges: so many `layers` are on the volume and take `size_bytes`."""
        self._sets.set(layers)
        self._bytes.set(size_bytes)
