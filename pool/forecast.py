"""Estimates of the time that a run would wait, for refusals and for `Retry-After`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pool.fleet import Fleet
    from pool.sizing.demand import DemandMeter
    from pool.waiting import Queue

STANDING_S = 1.0
"""Runs are refused for a slow queue only if the queue has not been empty for so many seconds."""


def retry_after(waiting: int, turn_s: float, containers: int) -> float:
    """Estimate the seconds until a queue of `waiting` leases, and one more, is served; at least 1.

    One use keeps one of the `containers` busy for `turn_s` seconds, which include the start of a
    replacement. Example: behind 39 leases of 3 s on 4 containers it is 30 s.
    """
    return max(1.0, (waiting + 1) * turn_s / containers)


def least_wait(ahead: int, turn_s: float, containers: int) -> float:
    """Estimate the least time in seconds that a lease waits behind `ahead` others.

    The pool refuses runs by this estimate. So it is a lower bound, where `retry_after` is a mean:
    it assumes that all `containers` come free at this moment. Example: behind 7 leases of 3 s on
    4 containers it is 3 s. Four leases are served now; after 3 s, the other three and this one.
    """
    return ahead // containers * turn_s


class Forecast:
    """Estimates waits from the length of the queue and the turns that `meter` has timed.

    A turn is the time for which one use keeps a container busy. A queue that has just formed
    proves nothing (CoDel, RFC 8289): its runs may be shorter than the last ones. A queue that has
    stood for `STANDING_S` is expected to go on as before.
    """

    def __init__(self, fleet: Fleet, queue: Queue, meter: DemandMeter, containers: int) -> None:
        self._fleet = fleet
        self._queue = queue
        self._meter = meter
        self._containers = containers
        self._standing_since = 0.0  # the time since which the queue is not empty

    def note_waiter(self, now: float) -> None:
        """Hear that a lease is about to join the queue."""
        if not self._queue:
            self._standing_since = now

    @property
    def turn_s(self) -> float:
        """The moving average of a turn, in seconds. Before the first turn, the time of a start.

        Example: runs of 2 s come to 2.0 if their containers are recycled. If each container is
        destroyed after its run, and a start takes 0.5 s, they come to 2.5.
        """
        return self._meter.turn_s or self._fleet.start_s

    def retry_after(self) -> float:
        """Estimate the seconds until the queue is served, at least 1."""
        return retry_after(len(self._queue), self.turn_s, self._containers)

    def tenant_retry_after(self, limit: int) -> float:
        """Estimate the seconds until one of a tenant's `limit` runs has ended, at least 1."""
        return retry_after(0, self.turn_s, min(limit, self._containers))

    def refusal(self, tenant: str, timeout_s: float, now: float) -> str | None:
        """Return the reason why a lease of `tenant` may not join the queue, or `None` if it may.

        A lease may not join if there is no place, or if it would wait longer than `timeout_s`.
        """
        if self._queue.refuses(tenant):
            return self._queue.refusal
        if self.least_wait(tenant, now) > timeout_s:
            return f"{self._queue.refusal}, which takes longer than {timeout_s:g} s"
        return None

    def least_wait(self, tenant: str, now: float) -> float:
        """Estimate the least time in seconds that a tenant's next lease waits; 0 if unknown."""
        if not self._queue or now - self._standing_since < STANDING_S:
            return 0.0
        # Not `self.turn_s`, which may be the time of a start: a lease that waits for the first
        # containers waits for one start only, however many leases are ahead of it.
        return least_wait(self._queue.ahead(tenant), self._meter.turn_s, self._containers)
