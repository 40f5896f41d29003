"""The queue for containers, in which tenants take turns, and the limit on a tenant's runs.

Within a tenant the queue is first come, first served. The tenants take turns: a tenant waits for
at most one lease of each other tenant, however many they have in the queue. If all places are
taken, the tenant with the most places gives up its newest lease for a tenant that has at least two
fewer. So a tenant is refused only if it has `places // tenants` places or more, and it never has to
give up one of these. With one tenant this is a plain queue.

Example: leases that came as a1 a2 a3 b1 c1 are served as a1 b1 c1 a2 a3.

With a share, no tenant has more containers at once than that, and its further leases wait though
containers are idle. So a tenant whose runs never end by themselves leaves some for the others.
"""

from __future__ import annotations

from collections import Counter, deque
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Collection, Iterator

    from pool.container import Container
    from pool.lease import Lease

    Grant = asyncio.Future[Container]
    """Brings the container of a waiting lease, or its error."""


class Queue:
    """The leases that wait, each with the future that brings its container.

    Iterates in the order of service over the leases that may have a container now. It skips a
    lease whose future is done: its task was just cancelled, and has not yet left the queue.

    `share` is the number of containers that one tenant may have of those `leased`; 0 is no limit.
    """

    def __init__(
        self, places: int, share: int = 0, leased: Collection[Container] = frozenset()
    ) -> None:
        self.places = places
        self._share = share
        self._leased = leased
        self._waiting: dict[str, dict[Lease, Grant]] = {}  # by tenant, the next turn's first
        self._size = 0
        self._listeners = 0

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Lease]:
        if not self._share:
            return self._in_turns({})
        used = Counter(container.tenant for container in self._leased)
        return self._in_turns({tenant: self._share - used[tenant] for tenant in self._waiting})

    def _in_turns(self, most: dict[str, int]) -> Iterator[Lease]:
        """Yield the leases in the order of service, of each tenant in `most` at most so many."""
        turns = deque(
            islice(
                (lease for lease, grant in own.items() if not grant.done()),
                max(0, most[tenant]) if most else None,
            )
            for tenant, own in self._waiting.items()
        )
        while turns:
            own = turns.popleft()
            if (lease := next(own, None)) is not None:
                turns.append(own)
                yield lease

    def may_lease(self, tenant: str) -> bool:
        """Return True if a tenant may have one more container."""
        if not self._share:
            return True
        return sum(container.tenant == tenant for container in self._leased) < self._share

    def late(self, lease: Lease) -> str:
        """Return the text of the error for a lease that has waited for its `timeout_s`."""
        if self.may_lease(lease.tenant):
            return f"no container came free within {lease.timeout_s:g} s"
        return (
            f"this tenant has {self._share} containers in use, as many as it may, and none of "
            f"those came free within {lease.timeout_s:g} s"
        )

    def refuses(self, tenant: str) -> bool:
        """Return True if there is no place for a lease of `tenant`, and no other gives up one."""
        return self._size >= self.places and self._greediest(tenant) is None

    @property
    def refusal(self) -> str:
        """The text of the error for a lease that is refused, or that gave up its place."""
        return f"{self._size} runs are already waiting for a container"

    def ahead(self, tenant: str) -> int:
        """Return the number of leases that come before a new lease of `tenant`."""
        own = len(self._waiting.get(tenant, ()))
        others = (len(theirs) for name, theirs in self._waiting.items() if name != tenant)
        return own + sum(min(waiting, own + 1) for waiting in others)

    def join(self, lease: Lease, grant: Grant) -> Grant | None:
        """Add a lease; return the grant of the lease that gave up its place for it, if any.

        Raises `RuntimeError` if `refuses` is true for its tenant.
        """
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
        """Take a lease out, as its tenant's turn. Raises `KeyError` if it is not in the queue."""
        grant = self.remove(lease)
        if grant is None:
            raise KeyError(lease)
        if (own := self._waiting.pop(lease.tenant, None)) is not None:
            self._waiting[lease.tenant] = own
        return grant

    def remove(self, lease: Lease) -> Grant | None:
        """Take a lease out, as no turn. Returns its grant, or `None` if it is not in the queue."""
        own = self._waiting.get(lease.tenant, {})
        grant = own.pop(lease, None)
        if grant is not None:
            self._size -= 1
            self._listeners -= lease.on_queued is not None
            if not own:
                del self._waiting[lease.tenant]
        return grant

    def tell(self) -> None:
        """Call the `on_queued` of each lease whose place in the queue has changed."""
        if not self._listeners:
            return
        for position, lease in enumerate(self._in_turns({}), 1):
            if lease.on_queued is not None and lease.position != position:
                lease.position = position
                lease.on_queued(position)

    def clear(self) -> list[Grant]:
        """Take all leases out, and return their grants."""
        grants = [grant for own in self._waiting.values() for grant in own.values()]
        self._waiting.clear()
        self._size = self._listeners = 0
        return grants

    def _greediest(self, tenant: str) -> str | None:
        """Return the tenant with the most places, if `tenant` has at least two fewer."""
        taken = {name: len(own) for name, own in self._waiting.items()}
        greediest = max(taken, key=taken.__getitem__)
        return greediest if taken[greediest] > taken.get(tenant, 0) + 1 else None


class Quota:
    """Counts each tenant's runs, in progress or waiting, up to `limit`; 0 means no limit."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._runs: dict[str, int] = {}

    def take(self, tenant: str) -> bool:
        """Count another run of `tenant`. Returns False, and counts nothing, at its limit."""
        if self.limit:
            runs = self._runs.get(tenant, 0)
            if runs >= self.limit:
                return False
            self._runs[tenant] = runs + 1
        return True

    @property
    def refusal(self) -> str:
        """The text of the error for a run beyond `limit`."""
        return (
            f"this tenant has {self.limit} runs in progress or waiting already, as many as it may"
        )

    def give_back(self, tenant: str) -> None:
        """Count one run of `tenant` fewer."""
        if self.limit:
            self._runs[tenant] -= 1
            if not self._runs[tenant]:
                del self._runs[tenant]
