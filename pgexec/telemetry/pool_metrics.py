"""The series of one pool, and the families of all pools' series."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge, Histogram

from pgexec.telemetry.labels import START_FAILURES, known
from pool.container import State
from pool.observer import Observer, Rejection, Source
from pool.sizing.recycling import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from prometheus_client import CollectorRegistry

    from pool.config import PoolConfig
    from pool.job import ResetReport
    from pool.observer import Snapshot

USES = (1, 2, 5, 10, 25, 50, 100, 250, 1000)


class PoolFamilies:
    """The families of all pools; the label `profile` names the pool."""

    def __init__(self, registry: CollectorRegistry, bounds_s: Sequence[float]) -> None:
        def counters(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, ["profile", *labels], registry=registry)

        def gauges(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(name, text, ["profile", *labels], registry=registry)

        def histograms(name: str, text: str, bounds: Sequence[float] = bounds_s) -> Histogram:
            return Histogram(name, text, ["profile"], buckets=bounds, registry=registry)

        self.containers = gauges("pgexec_containers", "Containers by state", "state")
        self.waiters = gauges("pgexec_waiters", "Requests that wait for a container")
        self.ready = gauges("pgexec_pool_ready", "1 when a run would be served now, else 0")
        self.backing_off = gauges(
            "pgexec_pool_backing_off",
            "1 while containers fail to start, so that few starts are tried, else 0",
        )
        self.min_idle = gauges("pgexec_pool_min_idle", "How many containers are kept idle at least")
        self.max_containers = gauges(
            "pgexec_pool_max_containers", "How many containers there may be"
        )
        self.max_waiting = gauges("pgexec_pool_max_waiting", "How many requests may wait")
        self.leases = counters("pgexec_leases_total", "Leases by where they came from", "source")
        self.wait_s = histograms(
            "pgexec_lease_wait_seconds", "Waiting for a container that was leased in the end"
        )
        self.rejections = counters("pgexec_rejections_total", "Leases that were refused", "reason")
        self.starts = counters("pgexec_container_starts_total", "Containers started")
        self.start_s = histograms(
            "pgexec_container_start_seconds", "From the engine's create to a ready runner"
        )
        self.start_failures = counters(
            "pgexec_container_start_failures_total", "Containers that did not start", "reason"
        )
        self.resets = counters("pgexec_container_resets_total", "Resets by outcome", "outcome")
        self.reset_s = histograms(
            "pgexec_container_reset_seconds", "From the end of a run to the runner's report"
        )
        self.recycled = counters(
            "pgexec_container_recycled_total", "Containers that went back to idle after a run"
        )
        self.destroyed = counters(
            "pgexec_container_destroyed_total", "Containers destroyed", "reason"
        )
        self.uses = histograms(
            "pgexec_container_uses", "Runs that a container had served when it was destroyed", USES
        )


class PoolMetrics(Observer):
    """Counts what one pool does, and shows its state at each scrape."""

    def __init__(self, of: PoolFamilies, profile: str) -> None:
        self._read: Callable[[], Snapshot] | None = None
        self._states = {state: of.containers.labels(profile, state.value) for state in State}
        self._waiters = of.waiters.labels(profile)
        self._ready = of.ready.labels(profile)
        self._backing_off = of.backing_off.labels(profile)
        self._min_idle = of.min_idle.labels(profile)
        self._max_containers = of.max_containers.labels(profile)
        self._max_waiting = of.max_waiting.labels(profile)
        self._leases = {source: of.leases.labels(profile, source) for source in Source}
        self._wait_s = of.wait_s.labels(profile)
        self._rejections = {reason: of.rejections.labels(profile, reason) for reason in Rejection}
        self._starts = of.starts.labels(profile)
        self._start_s = of.start_s.labels(profile)
        self._start_failures = {
            kind: of.start_failures.labels(profile, kind) for kind in START_FAILURES
        }
        self._resets_clean = of.resets.labels(profile, "clean")
        self._resets_dirty = of.resets.labels(profile, "dirty")
        self._reset_s = of.reset_s.labels(profile)
        self._recycled = of.recycled.labels(profile)
        self._destroyed = {reason: of.destroyed.labels(profile, reason) for reason in Reason}
        self._uses = of.uses.labels(profile)

    def watch(self, snapshot: Callable[[], Snapshot], config: PoolConfig) -> None:
        """Read the pool's states and its queue at each scrape."""
        self._read = snapshot
        self._min_idle.set(config.min_idle)
        self._max_containers.set(config.max_containers)
        self._max_waiting.set(config.max_waiting)

    def refresh(self) -> None:
        """Bring the gauges up to date."""
        if self._read is None:
            return
        now = self._read()
        for state, gauge in self._states.items():
            gauge.set(getattr(now, state.value))
        self._waiters.set(now.waiting)
        self._ready.set(now.ready)
        self._backing_off.set(now.start_failure is not None)

    # --- the pool's observer ---

    def started(self, seconds: float) -> None:
        """Count a container whose runner is ready."""
        self._starts.inc()
        self._start_s.observe(seconds)

    def start_failed(self, kind: str) -> None:
        """Count a container that did not become ready."""
        self._start_failures[known(kind, START_FAILURES)].inc()

    def leased(self, source: Source, waited_s: float) -> None:
        """Count a lease, and the seconds that it waited."""
        self._leases[source].inc()
        self._wait_s.observe(waited_s)

    def rejected(self, reason: Rejection) -> None:
        """Count a lease that the pool refused."""
        self._rejections[reason].inc()

    def reset(self, seconds: float, report: ResetReport) -> None:
        """Count a reset, clean or not."""
        (self._resets_clean if report.clean else self._resets_dirty).inc()
        self._reset_s.observe(seconds)

    def recycled(self) -> None:
        """Count a container that is idle again after a run."""
        self._recycled.inc()

    def destroyed(self, reason: Reason, uses: int) -> None:
        """Count a container that was destroyed after `uses` runs."""
        self._destroyed[reason].inc()
        self._uses.observe(uses)
