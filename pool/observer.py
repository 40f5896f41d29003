"""Two views of the pool: events as they happen, and its state at one moment."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pool.errors import InstallFailure
    from pool.job import ResetReport
    from pool.sizing.recycling import Reason


class Source(StrEnum):
    """The origin of a lease's container: idle before, waited for, or started for the lease."""

    IDLE = "idle"
    WAITED = "waited"
    STARTED = "started"


class Rejection(StrEnum):
    """The reason why the pool refused a lease."""

    SATURATED = "saturated"
    TENANT_SATURATED = "tenant_saturated"
    TIMEOUT = "timeout"
    UNAVAILABLE = "unavailable"
    CLOSED = "closed"


class Observer:
    """Hears the events of the pool; does nothing itself. Must not raise, block or call the pool."""

    def started(self, seconds: float) -> None:
        """Hear that a container became ready, and how many seconds its start took."""

    def start_failed(self, kind: str) -> None:
        """Hear that a container failed to start, or ended before its first use.

        `kind` is one of few words: the error's class, such as `engine_unavailable`, or `lost`,
        `timeout`, `unexpected`.
        """

    def leased(self, source: Source, waited_s: float) -> None:
        """Hear that a lease got its container."""

    def rejected(self, reason: Rejection) -> None:
        """Hear that a lease was refused."""

    def reset(self, seconds: float, report: ResetReport) -> None:
        """Hear the report on a reset. It came `seconds` after the end of the lease."""

    def recycled(self) -> None:
        """Hear that a used container is idle again."""

    def destroyed(self, reason: Reason, uses: int) -> None:
        """Hear that the engine has removed a container, which had run `uses` snippets."""


class LayerObserver:
    """Hears the events of dependency layers. Must not raise, block or call the store."""

    def hit(self) -> None:
        """Hear that a run's layer was there."""

    def missed(self) -> None:
        """Hear that a run has to wait for its layer."""

    def installed(self, seconds: float) -> None:
        """Hear that a layer was installed, and how many seconds this took."""

    def failed(self, failure: InstallFailure) -> None:
        """Hear that a layer could not be installed."""

    def evicted(self) -> None:
        """Hear that a layer was removed to make room for others."""

    def kept(self, layers: int, size_bytes: int) -> None:
        """Hear the number of layers now, and their size together."""

    def damaged(self) -> None:
        """Hear that something else had changed a layer, so that it is removed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The number of containers in each state, of leases that wait, and the health of the pool.

    `start_failure` is the reason why containers fail to start. `unready` is the reason why a run
    would not be served now, such as "warming up: 1 of 4 containers are ready". Both are `None` if
    all is well. `full` is true if the pool is unready only because too many wait.
    """

    starting: int
    idle: int
    leased: int
    resetting: int
    destroying: int
    waiting: int
    start_failure: str | None
    unready: str | None
    session: int = 0
    full: bool = False

    @property
    def ready(self) -> bool:
        """True if a run would be served."""
        return self.unready is None

    @property
    def total(self) -> int:
        """The number of containers that exist or are being started."""
        held = self.leased + self.session + self.resetting
        return self.starting + self.idle + held + self.destroying
