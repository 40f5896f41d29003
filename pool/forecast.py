"""How long a run would have to wait: estimates, for refusals and for `Retry-After`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pool.fleet import Fleet
    from pool.sizing.demand import DemandMeter
    from pool.waiting import Queue

STANDING_S = 1.0
"""How long the queue must have been there without a break before a run is refused for it."""


def retry_after(waiting: int, turn_s: float, containers: int) -> float:
    """Estimate in how many seconds a queue of `waiting` leases will have been served, at least 1.

    `turn_s` is how long one use keeps one of the `containers` busy, in seconds, a replacement's
    start included. For example, behind 39 leases of 3 s on 4 containers it is 30 s.
    """
    return max(1.0, (waiting + 1) * turn_s / containers)


def least_wait(ahead: int, turn_s: float, containers: int) -> float:
    """Estimate how many seconds a lease waits at the least behind `ahead` others.

    `retry_after` is a mean; this is a lower bound, because runs are refused by it: it assumes
    that all `containers` come free this moment. For example, behind 7 leases of 3 s on 4
    containers it is 3 s: four are served now, and three of the next four are before us.
    """
    return ahead // containers * turn_s


class Forecast:
    """Estimates waits from the length of the queue and the turns that `meter` has timed.

    A turn is the time for which one use keeps a container busy. As CoDel has it (RFC 8289), a
    queue that has just formed proves nothing: its runs may be of another kind than the last
    ones, and gone in a moment. A queue that has stood for `STANDING_S` will go on as it was.
    """

    def __init__(self, fleet: Fleet, queue: Queue, meter: DemandMeter, containers: int) -> None:
        self._fleet = fleet
        self._queue = queue
        self._meter = meter
        self._containers = containers
        self._standing_since = 0.0  # of the queue, while it is not empty

    def note_waiter(self, now: float) -> None:
        """Hear that a lease is about to join the queue."""
        if not self._queue:
            self._standing_since = now

    @property
    def turn_s(self) -> float:
        """The moving average of a turn, in seconds; before the first, how long a start takes.

        For example, with runs of 2 s in containers that are recycled it comes to 2.0, and with
        starts of 0.5 s in containers that are destroyed after each to 2.5.
        """
        return self._meter.turn_s or self._fleet.start_s

    def retry_after(self) -> float:
        """Return in how many seconds the queue will have been served, at least 1."""
        return retry_after(len(self._queue), self.turn_s, self._containers)

    def tenant_retry_after(self, limit: int) -> float:
        """Return in how many seconds one of a tenant's `limit` runs will have ended, at least 1."""
        return retry_after(0, self.turn_s, min(limit, self._containers))

    def refusal(self, tenant: str, timeout_s: float, now: float) -> str | None:
        """Return why a lease of `tenant` may not even join the queue, `None` where it may.

        It is refused where it would find no place, or would wait longer than `timeout_s`.
        """
        if self._queue.refuses(tenant):
            return self._queue.refusal
        if self.least_wait(tenant, now) > timeout_s:
            return f"{self._queue.refusal}, which takes longer than {timeout_s:g} s"
        return None

    def least_wait(self, tenant: str, now: float) -> float:
        """Return how many seconds a tenant's next lease would wait at the least; 0 is unknown."""
        if not self._queue or now - self._standing_since < STANDING_S:
            return 0.0
        # Not `self.turn_s`: the time of a start is no turn. A lease that waits for the first
        # containers waits for their start once, however many are ahead of it.
        return least_wait(self._queue.ahead(tenant), self._meter.turn_s, self._containers)
