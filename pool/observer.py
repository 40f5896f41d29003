"""The pool as others see it: events as they happen, and its state at one moment."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pool.errors import InstallFailure
    from pool.job import ResetReport
    from pool.sizing.recycling import Reason


class Source(StrEnum):
    """Where a lease's container came from."""

    IDLE = "idle"
    WAITED = "waited"
    STARTED = "started"


class Rejection(StrEnum):
    """Why a lease was refused."""

    SATURATED = "saturated"
    TENANT_SATURATED = "tenant_saturated"
    TIMEOUT = "timeout"
    UNAVAILABLE = "unavailable"
    CLOSED = "closed"


class Observer:
    """Hears what the pool does; does nothing itself. Must not raise, block or call back."""

    def started(self, seconds: float) -> None:
        """Hear that a container of the pool's own kind became ready after so long."""

    def start_failed(self, kind: str) -> None:
        """Hear that a container failed to start, or ended before its first use.

        `kind` is one word of few: an error's class, `lost`, `timeout` or `unexpected`.
        """

    def leased(self, source: Source, waited_s: float) -> None:
        """Hear that a lease got its container."""

    def rejected(self, reason: Rejection) -> None:
        """Hear that a lease was refused."""

    def reset(self, seconds: float, report: ResetReport) -> None:
        """Hear the report on a reset, and how long after the lease's end it came."""

    def recycled(self) -> None:
        """Hear that a used container is idle again."""

    def destroyed(self, reason: Reason, uses: int) -> None:
        """Hear that a container is gone from the engine."""


class LayerObserver:
    """Hears what happens to layers of dependencies; must not raise, block or call back."""

    def hit(self) -> None:
        """Hear that a run's dependencies were there."""

    def missed(self) -> None:
        """Hear that a run's dependencies have to be waited for."""

    def installed(self, seconds: float) -> None:
        """Hear that dependencies were installed, and how long that took."""

    def failed(self, failure: InstallFailure) -> None:
        """Hear that dependencies could not be installed."""

    def evicted(self) -> None:
        """Hear that dependencies make room for others."""

    def kept(self, layers: int, size_bytes: int) -> None:
        """Hear how many sets of dependencies are kept now, and what they take."""

    def damaged(self) -> None:
        """Hear that dependencies had been changed from outside, and are given up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """How many containers are in each state, how many leases wait, and how the pool is doing.

    `start_failure` is the reason why containers fail to start, as long as they do; `unready` is
    the reason why a run would not be served now, such as "warming up: 1 of 4 containers are
    ready". Both are `None` when all is well.
    """

    starting: int
    idle: int
    leased: int
    resetting: int
    destroying: int
    waiting: int
    start_failure: str | None
    unready: str | None

    @property
    def ready(self) -> bool:
        """Whether a run would be served."""
        return self.unready is None

    @property
    def total(self) -> int:
        """Slots in use."""
        return self.starting + self.idle + self.leased + self.resetting + self.destroying
