"""The queue for containers, in which tenants take turns, and the limit on a tenant's runs.

Within a tenant the queue is first come, first served. The tenants take turns: a tenant waits for
at most one lease of each other tenant, however many they have in the queue. If all places are
taken, the tenant with the most places gives up its newest lease for a tenant that has at least two
fewer. So a tenant is refused only if it has `places // tenants` places or more, and it never has to
give up one of these. With one tenant this is a plain queue.

Users of a tenant (`pool/tenant.py`) share its turns and its places, by the same rules among
themselves. So a tenant gains nothing by the number of its users.

Example: leases that came as a1 a2 a3 b1 c1 are served as a1 b1 c1 a2 a3. If those of `a` are of
its users x, x and y, they are served as x1 b1 c1 y3 x2.

With a share, no tenant has more containers at once than that, and its further leases wait though
containers are idle. So a tenant whose runs never end by themselves leaves some for the others.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from itertools import islice
from typing import TYPE_CHECKING

from pool.tenant import Shares, is_user, owner

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator

    from pool.container import Container
    from pool.lease import Lease

    Grant = asyncio.Future[Container]
    """Brings the container of a waiting lease, or its error."""


NEWS_S = 0.002
"""Times the number of those that listen, this is the least time between two rounds of news."""


class Queue:
    """The leases that wait, each with the future that brings its container.

    Iterates in the order of service over the leases that may have a container now. It skips a
    lease whose future is done: its task was just cancelled, and has not yet left the queue.

    `shares` bound the containers that one tenant may have of those `leased`.
    """

    def __init__(
        self,
        places: int,
        shares: Shares = Shares(),  # noqa: B008 - it cannot change
        leased: Collection[Container] = frozenset(),
    ) -> None:
        self.places = places
        self._shares = shares
        self._leased = leased
        # By tenant, and by its users with the tenant itself; the next turn's first.
        self._waiting: dict[str, dict[str, dict[Lease, Grant]]] = {}
        self._size = 0
        self._listeners = 0
        self._told_at = -math.inf

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Lease]:
        if not self._size:
            return iter(())
        if not any(self._shares):
            return self._in_order()
        used = Counter(container.tenant or "" for container in self._leased)
        rooms = {name: self._room(name, used) for own in self._waiting.values() for name in own}
        if self._shares.users:
            # A tenant that has users waiting is bounded with them; otherwise by itself.
            groups = {name: own for name, own in self._waiting.items() if any(map(is_user, own))}
            by_owner = Counter(owner(container.tenant or "") for container in self._leased)
            users = {name: max(0, self._shares.users - by_owner[name]) for name in groups}
            return self._in_order(rooms, users)
        return self._in_order(rooms)

    def _room(self, tenant: str, used: Counter[str]) -> int | None:
        share = self._shares.user if is_user(tenant) else self._shares.tenant
        return max(0, share - used[tenant]) if share else None

    def _in_order(
        self, rooms: dict[str, int | None] | None = None, groups: dict[str, int] | None = None
    ) -> Iterator[Lease]:
        """Yield the leases in the order of service.

        There are at most `rooms` of each tenant, and at most `groups` of one with its users.
        """
        rooms, groups = rooms or {}, groups or {}

        def of_one(tenant: str, own: dict[Lease, Grant]) -> Iterator[Lease]:
            open_ones = (lease for lease, grant in own.items() if not grant.done())
            return islice(open_ones, rooms.get(tenant))

        return _in_turns(
            islice(_in_turns(of_one(name, own) for name, own in group.items()), groups.get(top))
            for top, group in self._waiting.items()
        )

    def may_lease(self, tenant: str) -> bool:
        """Return True if a tenant may have one more container."""
        return not self._reached(tenant)

    def late(self, lease: Lease) -> str:
        """Return the text of the error for a lease that has waited for its `timeout_s`."""
        if reached := self._reached(lease.tenant):
            return f"{reached}, and none of those came free within {lease.timeout_s:g} s"
        return f"no container came free within {lease.timeout_s:g} s"

    def _reached(self, tenant: str) -> str:
        """Return which share a tenant has in full, or nothing."""
        shares = self._shares
        share = shares.user if is_user(tenant) else shares.tenant
        if share and sum(one.tenant == tenant for one in self._leased) >= share:
            return f"this tenant has {share} containers in use, as many as it may"
        if shares.users and is_user(tenant):
            own = owner(tenant)
            if sum(owner(one.tenant or "") == own for one in self._leased) >= shares.users:
                return (
                    f"the users of this key have {shares.users} containers in use together, as "
                    "many as they may"
                )
        return ""

    def refuses(self, tenant: str) -> bool:
        """Return True if there is no place for a lease of `tenant`, and no other gives up one."""
        return self._size >= self.places and self._greediest(tenant) is None

    @property
    def refusal(self) -> str:
        """The text of the error for a lease that is refused, or that gave up its place."""
        return f"{self._size} runs are already waiting for a container"

    def ahead(self, tenant: str) -> int:
        """Return the number of leases that come before a new lease of `tenant`."""
        group = self._waiting.get(owner(tenant), {})
        own = len(group.get(tenant, ()))
        within = _place(own, (len(others) for name, others in group.items() if name != tenant))
        groups = self._waiting.items()
        return _place(within, (_size(one) for name, one in groups if name != owner(tenant)))

    def join(self, lease: Lease, grant: Grant) -> Grant | None:
        """Add a lease; return the grant of the lease that gave up its place for it, if any.

        Raises `RuntimeError` if `refuses` is true for its tenant.
        """
        shed = None
        if self._size >= self.places:
            greediest = self._greediest(lease.tenant)
            if greediest is None:
                raise RuntimeError("there is no place to wait in")
            shed = self.remove(next(reversed(greediest)))
        group = self._waiting.setdefault(owner(lease.tenant), {})
        group.setdefault(lease.tenant, {})[lease] = grant
        self._size += 1
        self._listeners += lease.on_queued is not None
        return shed

    def serve(self, lease: Lease) -> Grant:
        """Take a lease out, as its tenant's turn. Raises `KeyError` if it is not in the queue."""
        grant = self.remove(lease)
        if grant is None:
            raise KeyError(lease)
        if (group := self._waiting.pop(owner(lease.tenant), None)) is not None:
            self._waiting[owner(lease.tenant)] = group
            if (own := group.pop(lease.tenant, None)) is not None:
                group[lease.tenant] = own
        return grant

    def remove(self, lease: Lease) -> Grant | None:
        """Take a lease out, as no turn. Returns its grant, or `None` if it is not in the queue."""
        group = self._waiting.get(owner(lease.tenant), {})
        own = group.get(lease.tenant, {})
        grant = own.pop(lease, None)
        if grant is not None:
            self._size -= 1
            self._listeners -= lease.on_queued is not None
            if not own:
                del group[lease.tenant]
            if not group:
                del self._waiting[owner(lease.tenant)]
        return grant

    def tell(self, now: float) -> float:
        """Call the `on_queued` of each lease whose place in the queue has changed.

        Returns when to call this again, `math.inf` if there is no news. A lease that has just come
        is told at once. The others wait for `NEWS_S` for each that listens: one end of a run
        changes the places of all.
        """
        if not self._listeners:
            return math.inf
        next_at = self._told_at + NEWS_S * self._listeners
        news = False
        for position, lease in enumerate(self._in_order(), 1):
            if lease.on_queued is None or lease.position == position:
                continue
            news = news or lease.position > 0
            if now >= next_at or not lease.position:
                lease.position = position
                lease.on_queued(position)
        if news and now >= next_at:
            self._told_at = now
            return math.inf
        return next_at if news else math.inf

    def clear(self) -> list[Grant]:
        """Take all leases out, and return their grants."""
        groups = self._waiting.values()
        grants = [grant for group in groups for own in group.values() for grant in own.values()]
        self._waiting.clear()
        self._size = self._listeners = 0
        return grants

    def _greediest(self, tenant: str) -> dict[Lease, Grant] | None:
        """Return the leases of who has the most places, if `tenant` has at least two fewer.

        First that is a tenant with all its users, then a user of the same tenant.
        """
        sizes = {name: _size(group) for name, group in self._waiting.items()}
        greediest = max(sizes, key=sizes.__getitem__)
        own = self._waiting.get(owner(tenant), {})
        if sizes[greediest] > _size(own) + 1:
            return max(self._waiting[greediest].values(), key=len)
        most = max(own.values(), key=len, default={})
        return most if len(most) > len(own.get(tenant, ())) + 1 else None


def _in_turns(rows: Iterable[Iterator[Lease]]) -> Iterator[Lease]:
    """Yield one lease of each row, again and again."""
    turns = deque(rows)
    while len(turns) > 1:
        row = turns.popleft()
        if (lease := next(row, None)) is not None:
            turns.append(row)
            yield lease
    if turns:
        yield from turns[0]


def _size(group: dict[str, dict[Lease, Grant]]) -> int:
    return sum(map(len, group.values()))


def _place(own: int, others: Iterable[int]) -> int:
    """Return how many come before a row's next lease, behind `own` of the row itself."""
    return own + sum(min(waiting, own + 1) for waiting in others)


class Quota:
    """Counts each tenant's runs, in progress or waiting, and its sessions, up to `limit`.

    A limit of 0 means none. `make_way` ends an idle session of a tenant, if it has one.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.make_way: Callable[[str], Awaitable[None]] | None = None
        self._runs: dict[str, int] = {}  # with the sessions
        self._sessions: dict[str, int] = {}

    def take(self, tenant: str) -> bool:
        """Count another run of `tenant`. Returns False, and counts nothing, at its limit."""
        if self.limit:
            runs = self._runs.get(tenant, 0)
            if runs >= self.limit:
                return False
            self._runs[tenant] = runs + 1
        return True

    def keep(self, tenant: str) -> None:
        """Count a run of `tenant` as a session from now on."""
        if self.limit:
            self._sessions[tenant] = self._sessions.get(tenant, 0) + 1

    def is_full(self, tenant: str) -> bool:
        """Return True if `take` would return False."""
        return bool(self.limit) and self._runs.get(tenant, 0) >= self.limit

    def has_only_sessions(self, tenant: str) -> bool:
        """Return True if `take` would return False, and no end of a run would change that."""
        return bool(self.limit) and self._sessions.get(tenant, 0) >= self.limit

    def refusal(self, tenant: str) -> str:
        """Return the text of the error for a run of `tenant` beyond `limit`."""
        sessions = self._sessions.get(tenant, 0)
        parts = []
        if runs := self._runs.get(tenant, 0) - sessions:
            parts.append(f"{runs} run{'s' * (runs != 1)} in progress or waiting")
        if sessions:
            parts.append(f"{sessions} session{'s' * (sessions != 1)}")
        text = f"this tenant has {' and '.join(parts)} already, as many as it may"
        return f"{text}: end a session, or come back later" if sessions else text

    def give_back(self, tenant: str, *, session: bool = False) -> None:
        """Count one run of `tenant` fewer, or one session."""
        if self.limit:
            for counts in (self._runs, self._sessions) if session else (self._runs,):
                counts[tenant] -= 1
                if not counts[tenant]:
                    del counts[tenant]
