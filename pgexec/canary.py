"""The isolation canary: attempts, in a spare container, what a snippet must not be able to do.

A limit that the engine no longer enforces, or a guard that an update of the kernel has
undone, shows nowhere else: everything goes on working. The container is started as the
pool's are, counts to nobody's capacity, and is destroyed afterwards. What is attempted is
the doctor's own; see `pgexec/doctor/trials.py`.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
import time
from typing import TYPE_CHECKING, TypeVar

from prometheus_client import Counter, Gauge

from pgexec.doctor.findings import Outcome, Verdict, fail
from pgexec.doctor.isolation import OF_A_CONTAINER, OF_MORE_CONTAINERS
from pgexec.doctor.sandbox import ProbeError, Sandbox
from pool.errors import PoolError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from prometheus_client import CollectorRegistry

    from pgexec.doctor.check import Check
    from pgexec.doctor.sandbox import Laboratory

T = TypeVar("T")

logger = logging.getLogger("pgexec.canary")

FIRST_AFTER_S = 60.0
"""Until the first round: the pool warms up, and who restarts often is probed, too."""


class CanaryMetrics:
    """What the canary found last, how often it found a failure, and when it looked."""

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
        """Have the series of these checks from the start."""
        self._interval.set(interval_s)
        for check in checks:
            self.found(profile, check, None)
            self._failures.labels(profile, _label(check))

    def found(self, profile: str, check: str, verdict: Verdict | None) -> None:
        """Note how a check ended, `None` where it could not be made; a warning is no failure."""
        failed = verdict is Verdict.FAIL
        self._ok.labels(profile, _label(check)).set(math.nan if verdict is None else not failed)
        if failed:
            self._failures.labels(profile, _label(check)).inc()

    def completed(self) -> None:
        """Note that every check has just been made."""
        self._last_run.set(time.time())


class Canary:
    """Probes a container of each profile's `laboratory` every `interval_s` seconds, never for 0."""

    def __init__(
        self,
        laboratory: Callable[[str], Awaitable[Laboratory]],
        metrics: CanaryMetrics,
        interval_s: float,
        profiles: Sequence[str],
        *,
        of_a_container: Sequence[Check[Sandbox]] = OF_A_CONTAINER,
        of_more_containers: Sequence[Check[Laboratory]] = OF_MORE_CONTAINERS,
    ) -> None:
        self._laboratory = laboratory
        self._metrics = metrics
        self._interval_s = interval_s
        self._of_a_container = of_a_container
        self._of_more_containers = of_more_containers
        self._profiles = profiles
        self._failing: set[tuple[str, str]] = set()
        self._names = [check.name for check in of_a_container]
        self._names += [check.name for check in of_more_containers]
        for profile in profiles:
            metrics.expect(profile, self._names, interval_s)

    async def attend(self) -> None:
        """Probe until cancelled; a round that is cancelled leaves no container behind."""
        pause_s = min(FIRST_AFTER_S, self._interval_s)
        while pause_s:
            await asyncio.sleep(pause_s)
            pause_s = self._interval_s
            try:
                await self.probe()
            except Exception:
                logger.exception("an unexpected error of the isolation canary")

    async def probe(self) -> None:
        """Make every check once. An engine that is away leaves its checks unknown."""
        made = [await self._probe(profile) for profile in self._profiles]
        if all(made):
            self._metrics.completed()

    async def _probe(self, profile: str) -> bool:
        """Make the checks of a profile; `False` where some could not be made."""
        try:
            laboratory = await self._laboratory(profile)
            async with laboratory.container() as container:
                sandbox = await Sandbox.of(laboratory, container)
                made = [await self._make(profile, check, sandbox) for check in self._of_a_container]
        except (PoolError, ProbeError, OSError) as error:
            logger.warning("the canary of %s found no container to probe: %s", profile, error)
            for name in self._names:
                self._metrics.found(profile, name, None)
            return False
        made += [await self._make(profile, check, laboratory) for check in self._of_more_containers]
        return all(made)

    async def _make(self, profile: str, check: Check[T], subject: T) -> bool:
        """Make a check and tell of it; `False` where it could not be made."""
        try:
            async with asyncio.timeout(check.timeout_s):
                outcome = await check.look(subject)
        except (PoolError, TimeoutError) as error:
            reason = str(error) or f"no result within {check.timeout_s:g} s"
            logger.warning(
                "the canary of %s cannot tell of the %s: %s", profile, check.name, reason
            )
            self._metrics.found(profile, check.name, None)
            return False
        except ProbeError as error:
            outcome = fail(str(error), "run pgexec doctor")
        self._metrics.found(profile, check.name, outcome.status)
        self._tell(profile, check.name, outcome)
        return True

    def _tell(self, profile: str, name: str, outcome: Outcome) -> None:
        finding = outcome.of(name)
        if finding.status is Verdict.FAIL:
            self._failing.add((profile, name))
            logger.error(
                "the isolation of %s does not hold (%s): %s; remedy: %s",
                profile,
                name,
                finding.finding,
                finding.remedy,
            )
        elif (profile, name) in self._failing:
            self._failing.discard((profile, name))
            logger.info("the isolation of %s holds again (%s)", profile, name)


def _label(check: str) -> str:
    return re.sub(r"\W+", "_", check)
