"""Tells if the pool would serve a run now, and if not, the reason."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pool.config import PoolConfig
    from pool.fleet import Fleet
    from pool.forecast import Forecast

EMPTY_S = 1.0
"""A pool with `min_idle` stays ready for so many seconds while it has no container at all."""


class Readiness:
    """Remembers the facts that the fleet does not know: a pause, a doubt, a time without any.

    `paused` is the reason why the pool must not start containers. `doubt` is the reason why the
    pool is unready even with idle containers. Others set both; `None` means no reason.
    """

    def __init__(self, fleet: Fleet, forecast: Forecast, config: PoolConfig) -> None:
        self.paused: str | None = None
        self.doubt: str | None = None
        self._fleet = fleet
        self._forecast = forecast
        self._config = config
        self._warmed = False  # once true, always true
        self._empty_since = math.inf

    def note(self, now: float) -> None:
        """Look at the fleet, before the plan of the time `now` is carried out."""
        usable = self._fleet.usable
        self._warmed = self._warmed or usable >= self._config.min_idle
        if usable:
            self._empty_since = math.inf
        elif self._empty_since == math.inf:
            self._empty_since = now

    def start_failure(self) -> str | None:
        """Return the reason why containers do not start, or `None` if they do."""
        if self.paused is not None:
            return self.paused
        failure = self._fleet.start_failure
        return None if failure is None else f"containers fail to start: {failure}"

    def unready(self, now: float) -> str | None:
        """Return the reason why no run would be served at `now`, or `None` if one would.

        A queue that is full is none: it may have room at the next moment.
        """
        fleet, config = self._fleet, self._config
        reason = self.start_failure()
        # A pool that has been warm serves with its containers, even if no more can be started.
        if reason is not None and (not self._warmed or fleet.usable == 0):
            return reason
        if self.doubt:
            return self.doubt
        if not self._warmed:
            return f"warming up: {fleet.usable} of {config.min_idle} containers are ready"
        if now - self._empty_since > EMPTY_S and config.min_idle:
            return f"no container is ready; {len(fleet.starts)} are starting"
        return None

    def full(self, now: float) -> str | None:
        """Return the reason why a run would not get its turn, or `None` if it would."""
        # Readiness has no tenant: a tenant without any runs stands for all.
        return self._forecast.refusal("", self._config.lease_timeout_s, now)
