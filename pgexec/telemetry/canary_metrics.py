"""The series of the isolation canary."""

from __future__ import annotations

import math
import re
import time
from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prometheus_client import CollectorRegistry


class CanaryMetrics:
    """The canary's last findings, the number of failures, and the time of the last round."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._ok = Gauge(
            "pgexec_canary_ok",
            "1 where the isolation held when it was probed, 0 where not, NaN where it is not known",
            ["profile", "check"],
            registry=registry,
        )
        self._failures = Counter(
            "pgexec_canary_failures_total",
            "Probes of the isolation that found it not to hold",
            ["profile", "check"],
            registry=registry,
        )
        self._last_run = Gauge(
            "pgexec_canary_last_run_timestamp_seconds",
            "When every check of the isolation canary was last made, 0 for never",
            registry=registry,
        )
        self._interval = Gauge(
            "pgexec_canary_interval_seconds",
            "How often the isolation is to be probed, 0 for never",
            registry=registry,
        )

    def expect(self, profile: str, checks: Sequence[str], interval_s: float) -> None:
        """Make the series of these checks, so that they are there from the start."""
        self._interval.set(interval_s)
        for check in checks:
            self.found(profile, check, holds=None)
            self._failures.labels(profile, _label(check))

    def found(self, profile: str, check: str, *, holds: bool | None) -> None:
        """Note if the isolation `holds` in one check; `None` means that the check was not made."""
        self._ok.labels(profile, _label(check)).set(math.nan if holds is None else holds)
        if holds is False:
            self._failures.labels(profile, _label(check)).inc()

    def completed(self) -> None:
        """Note that every check has just been made."""
        self._last_run.set(time.time())


def _label(check: str) -> str:
    return re.sub(r"\W+", "_", check)
