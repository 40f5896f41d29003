"""The queue for containers, in which tenants take turns, and the limit on a tenant's runs.

The queue is first come, first served within a tenant, and the tenants take turns, so that a
tenant is served after at most one turn of each other, however many leases of theirs wait. When
all places are taken, the tenant with the most places gives up its newest for a tenant that has
at least two fewer. So a tenant is refused only if it has `places // tenants` or more itself, and
gives up only what it has beyond that. With one tenant all of this is a plain queue.

For example, leases that came as a1 a2 a3 b1 c1 are served as a1 b1 c1 a2 a3.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator

    from pool.container import Container
    from pool.lease import Lease

    Grant = asyncio.Future[Container]
    """Brings the container, or the error, that a waiting lease gets."""


class Queue:
    """The leases that wait, each with the future that brings its container.

    Iterates in the order of service, over those whose future is still open: a waiter whose
    task was just cancelled has not had its turn to give up.
    """

    def __init__(self, places: int) -> None:
        self.places = places
        self._waiting: dict[str, dict[Lease, Grant]] = {}  # by tenant, the next turn's first
        self._size = 0
        self._listeners = 0

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Lease]:
        turns = deque(iter(own.items()) for own in self._waiting.values())
        while turns:
            own = turns.popleft()
            for lease, grant in own:
                if not grant.done():
                    turns.append(own)
                    yield lease
                    break

    def refuses(self, tenant: str) -> bool:
        """Whether a lease of this tenant would find no place, and none has to make way."""
        return self._size >= self.places and self._greediest(tenant) is None

    @property
    def refusal(self) -> str:
        """The sentence with which a lease is refused or shed."""
        return f"{self._size} runs are already waiting for a container"

    def ahead(self, tenant: str) -> int:
        """Return how many leases would be served before one of this tenant that joined now."""
        own = len(self._waiting.get(tenant, ()))
        others = (len(theirs) for name, theirs in self._waiting.items() if name != tenant)
        return own + sum(min(waiting, own + 1) for waiting in others)

    def join(self, lease: Lease, grant: Grant) -> Grant | None:
        """Add a lease that is not refused; return the grant of the one that made way, if any."""
        shed = None
        if self._size >= self.places:
            greediest = self._greediest(lease.tenant)
            if greediest is None:
                raise RuntimeError("there is no place to wait in")
            shed = self.remove(next(reversed(self._waiting[greediest])))
        self._waiting.setdefault(lease.tenant, {})[lease] = grant
        self._size += 1
        self._listeners += lease.on_queued is not None
        return shed

    def serve(self, lease: Lease) -> Grant:
        """Take a lease out; its tenant has had its turn."""
        grant = self.remove(lease)
        if grant is None:
            raise KeyError(lease)
        if (own := self._waiting.pop(lease.tenant, None)) is not None:
            self._waiting[lease.tenant] = own
        return grant

    def remove(self, lease: Lease) -> Grant | None:
        """Take a lease out, if it is still in, without its having been served."""
        own = self._waiting.get(lease.tenant, {})
        grant = own.pop(lease, None)
        if grant is not None:
            self._size -= 1
            self._listeners -= lease.on_queued is not None
            if not own:
                del self._waiting[lease.tenant]
        return grant

    def tell(self) -> None:
        """Tell each lease that listens its place in the queue, if that has changed."""
        if not self._listeners:
            return
        for position, lease in enumerate(self, 1):
            if lease.on_queued is not None and lease.position != position:
                lease.position = position
                lease.on_queued(position)

    def clear(self) -> list[Grant]:
        """Take all out, and return their grants."""
        grants = [grant for own in self._waiting.values() for grant in own.values()]
        self._waiting.clear()
        self._size = self._listeners = 0
        return grants

    def _greediest(self, tenant: str) -> str | None:
        """Return the tenant with the most places, unless `tenant` would then have as many."""
        taken = {name: len(own) for name, own in self._waiting.items()}
        greediest = max(taken, key=taken.__getitem__)
        return greediest if taken[greediest] > taken.get(tenant, 0) + 1 else None


class Quota:
    """Counts the runs of each tenant, in progress and waiting, up to `limit`; 0 is no limit."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._runs: dict[str, int] = {}

    def take(self, tenant: str) -> bool:
        """Count another run of this tenant, and return whether it may have one."""
        if self.limit:
            runs = self._runs.get(tenant, 0)
            if runs >= self.limit:
                return False
            self._runs[tenant] = runs + 1
        return True

    @property
    def refusal(self) -> str:
        """The sentence with which a run beyond `limit` is refused."""
        return (
            f"this tenant has {self.limit} runs in progress or waiting already, as many as it may"
        )

    def give_back(self, tenant: str) -> None:
        """Count one run fewer."""
        if self.limit:
            self._runs[tenant] -= 1
            if not self._runs[tenant]:
                del self._runs[tenant]
