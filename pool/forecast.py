"""How long who waits will have to: what the turns before took, and when that is to be believed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pool import planning

if TYPE_CHECKING:
    from pool.demand import DemandMeter
    from pool.fleet import Fleet
    from pool.waiting import Queue

STANDING_S = 1.0
"""How long somebody must have been waiting all the time before anybody is turned away for it."""


class Forecast:
    """Tells waits from the turns that `meter` times: how long one use keeps a container busy.

    As CoDel has it (RFC 8289), a queue that has just formed is no evidence: it may be of
    another kind than what ran before, and gone in a moment. One that stands goes on as it was.
    """

    def __init__(self, fleet: Fleet, queue: Queue, meter: DemandMeter, containers: int) -> None:
        self._fleet = fleet
        self._queue = queue
        self._meter = meter
        self._containers = containers
        self._standing_since = 0.0  # of the queue, while it is not empty

    def note_waiter(self, now: float) -> None:
        """Hear that somebody is about to join the queue."""
        if not self._queue:
            self._standing_since = now

    @property
    def turn_s(self) -> float:
        """The mean of late; before the first, what a start takes."""
        return self._meter.turn_s or self._fleet.start_s

    def retry_after(self) -> float:
        """Return in how many seconds the queue will have been served, at least 1."""
        return planning.retry_after(len(self._queue), self.turn_s, self._containers)

    def least_wait(self, tenant: str, now: float) -> float:
        """Return how many seconds a tenant's next lease would wait at the least; 0 is unknown."""
        if not self._queue or now - self._standing_since < STANDING_S:
            return 0.0
        # Not `turn_s`: what a start takes, who waits for the first ones waits only once.
        return planning.least_wait(self._queue.ahead(tenant), self._meter.turn_s, self._containers)
