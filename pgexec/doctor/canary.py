"""The isolation canary: it tries forbidden actions in a spare container.

If the engine no longer enforces a limit, or an update of the kernel has undone the guard,
everything goes on working: without the canary, nobody would notice. The container starts as the
pool's containers do, takes none of their places, and is destroyed afterwards. The doctor makes the
same attempts; see `pgexec/doctor/isolation.py`.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, TypeVar

from pgexec.doctor.findings import CheckStatus, Observation, fail
from pgexec.doctor.isolation import OF_A_CONTAINER, OF_MORE_CONTAINERS
from pgexec.doctor.sandbox import ProbeError, Sandbox
from pool.errors import PoolError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from pgexec.backend.laboratory import Laboratory
    from pgexec.doctor.check import Check
    from pgexec.telemetry.canary_metrics import CanaryMetrics

T = TypeVar("T")

logger = logging.getLogger("pgexec.canary")

FIRST_AFTER_S = 60.0
"""The pause before the first round: so short that it probes even a server that restarts often."""


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
        """Probe until cancelled; a cancellation leaves no container behind."""
        pause_s = min(FIRST_AFTER_S, self._interval_s)
        while pause_s:
            await asyncio.sleep(pause_s)
            pause_s = self._interval_s
            try:
                await self.probe()
            except Exception:
                logger.exception("an unexpected error of the isolation canary")

    async def probe(self) -> None:
        """Make every check once. If the engine is away, its checks count as unknown."""
        made = [await self._probe(profile) for profile in self._profiles]
        if all(made):
            self._metrics.completed()

    async def _probe(self, profile: str) -> bool:
        """Make the checks of a profile. Returns False if a check could not be made."""
        try:
            laboratory = await self._laboratory(profile)
            async with laboratory.container() as container:
                sandbox = await Sandbox.of(laboratory, container)
                made = [
                    await self._make(profile, check, sandbox, laboratory)
                    for check in self._of_a_container
                ]
        except (PoolError, ProbeError, OSError) as error:
            logger.warning("the canary of %s found no container to probe: %s", profile, error)
            for name in self._names:
                self._metrics.found(profile, name, holds=None)
            return False
        made += [
            await self._make(profile, check, laboratory, laboratory)
            for check in self._of_more_containers
        ]
        return all(made)

    async def _make(
        self, profile: str, check: Check[T], subject: T, laboratory: Laboratory
    ) -> bool:
        """Make a check and report it. Returns False if it could not be made."""
        limit_s = check.limit_s(laboratory.settings.start_timeout_s)
        try:
            async with asyncio.timeout(limit_s):
                observation = await check.look(subject)
        except (PoolError, TimeoutError) as error:
            reason = str(error) or f"no result within {limit_s:g} s"
            logger.warning(
                "the canary of %s cannot tell of the %s: %s", profile, check.name, reason
            )
            self._metrics.found(profile, check.name, holds=None)
            return False
        except ProbeError as error:
            observation = fail(str(error), "run pgexec doctor")
        self._metrics.found(profile, check.name, holds=observation.status is not CheckStatus.FAIL)
        self._tell(profile, check.name, observation)
        return True

    def _tell(self, profile: str, name: str, observation: Observation) -> None:
        finding = observation.of(name)
        if finding.status is CheckStatus.FAIL:
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
