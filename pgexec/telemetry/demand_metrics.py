"""The series of demand: arrivals, the pool's target, and the number of idle containers advised."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

    from pgexec.settings import Settings
    from pool.sizing.demand import DemandReport

    Report = Callable[[], DemandReport]

CONTAINERS = (*range(1, 17), 20, 24, 28, 32, 40, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
"""Bounds of the buckets for numbers of containers; up to 16, each number has its own bucket."""


class DemandMetrics(Collector):
    """Shows the demand at each scrape, and the settings that `pgexec advise` may change.

    It is a collector and counts nothing: the pool has whole histograms already.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._reports: Mapping[str, Report] = {}
        self._settings: Mapping[str, float] = {}
        registry.register(self)

    def watch(self, reports: Mapping[str, Report], settings: Settings) -> None:
        """Read these reports at each scrape; their names become the label `profile`."""
        self._reports = reports
        self._settings = {
            "pool_min_idle": settings.pool_min_idle,
            "pool_max_containers": settings.pool_max_containers,
            "pool_autoscale": settings.pool_autoscale,
            "max_uses": settings.max_uses,
            "memory_limit": settings.memory_limit,
        }

    def collect(self) -> Iterator[Metric]:
        """Yield the families as they are now; none before there is something to watch."""
        if not self._reports:
            return
        labels = ["profile"]
        rate = GaugeMetricFamily(
            "pgexec_arrivals_per_second", "Leases asked for in the last ten seconds", labels=labels
        )
        target = GaugeMetricFamily(
            "pgexec_target_idle_containers", "How many containers should be idle now", labels=labels
        )
        recommended = GaugeMetricFamily(
            "pgexec_recommended_idle_containers",
            "What PGEXEC_POOL_MIN_IDLE should be after the last day",
            labels=labels,
        )
        levels = HistogramMetricFamily(
            "pgexec_demand_containers", "By arrival, containers needed at once", labels=labels
        )
        rises = HistogramMetricFamily(
            "pgexec_demand_rise_containers",
            "By arrival, how many more that were than a second or two before",
            labels=labels,
        )
        for profile, report in self._reports.items():
            now = report()
            rate.add_metric([profile], now.arrivals_per_s)
            target.add_metric([profile], now.target_idle)
            recommended.add_metric([profile], now.recommended_idle)
            levels.add_metric([profile], *_buckets(now.levels))
            rises.add_metric([profile], *_buckets(now.rises))
        settings = GaugeMetricFamily(
            "pgexec_setting", "Settings that advice may be about", labels=["name"]
        )
        for name, value in self._settings.items():
            settings.add_metric([name], float(value))
        yield from (rate, target, recommended, levels, rises, settings)


def _buckets(counts: Sequence[int]) -> tuple[list[tuple[str, float]], float]:
    """Return the buckets and the sum of a histogram.

    `counts[n]` is how often the number n was seen; the last element counts all higher numbers, too.
    """
    buckets, below, seen = [], 0, 0
    for bound in (one for one in CONTAINERS if one < len(counts) - 1):
        seen += sum(counts[below : bound + 1])
        below = bound + 1
        buckets.append((str(float(bound)), float(seen)))
    buckets.append(("+Inf", float(sum(counts))))
    return buckets, float(sum(number * many for number, many in enumerate(counts)))
