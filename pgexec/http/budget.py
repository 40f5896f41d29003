"""A budget for the bytes that clients make the server hold: slow bodies, answers not taken.

16 KiB or less of a client are not counted: the limit on connections bounds them. If the budget is
exceeded, the tenant that holds the most gives way; of its clients, the one that has held counted
bytes for the longest is dropped. So a client that keeps up is not dropped, and a tenant that holds
little never gives way to another. A tenant counts with all its users; among these, the one that
holds the most gives way.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Self

from pool.tenant import owner

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

FREE_BYTES = 16 << 10
"""So many bytes of a client, or fewer, are not counted."""


class Budget:
    """At most `limit_bytes` for all clients; one tenant may have three quarters of them."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.held_bytes = 0
        self._tenant_bytes = limit_bytes - limit_bytes // 4
        self._held: dict[str, dict[Held, None]] = {}  # by tenant, the longest held first
        self._bytes: dict[str, int] = {}
        self._with_users: Counter[str] = Counter()

    def hold(self, tenant: str, drop: Callable[[], None] | None = None) -> Held:
        """Return the account of one client of a tenant, which is empty; use it in a `with`.

        If the client has to give way, `drop` is called once; it must end the client's request.
        """
        return Held(self, tenant, drop)

    def change(self, held: Held, by_bytes: int) -> None:
        """Count `by_bytes` more (or less, if negative) for `held`; others may have to give way."""
        tenant = held.tenant
        own = self._held.setdefault(tenant, {})
        if held.size:
            own[held] = None
        else:
            own.pop(held, None)
        self.held_bytes += by_bytes
        self._bytes[tenant] = self._bytes.get(tenant, 0) + by_bytes
        self._with_users[owner(tenant)] += by_bytes
        if not own:
            del self._held[tenant], self._bytes[tenant]
        if not self._with_users[owner(tenant)]:
            del self._with_users[owner(tenant)]
        if by_bytes > 0:
            self._make_room(tenant)

    def exceeded(self, tenant: str) -> bool:
        """Return True if all clients together, or those of this tenant, hold too much."""
        return self._is_over(tenant) or self.held_bytes > self.limit_bytes

    def _is_over(self, tenant: str) -> bool:
        return self._with_users[owner(tenant)] > self._tenant_bytes

    def _make_room(self, tenant: str) -> None:
        while self.exceeded(tenant):
            held = self._with_users
            most = owner(tenant) if self._is_over(tenant) else max(held, key=held.__getitem__)
            users = (name for name in self._bytes if owner(name) == most)
            greediest = max(users, key=self._bytes.__getitem__)
            victim = next((one for one in self._held[greediest] if one.drop is not None), None)
            if victim is None:
                return
            victim.give_way()


class Held:
    """The account of one client: `size` is the number of its bytes that are counted.

    `drop` is `None` if the client cannot give way, or has done so.
    """

    __slots__ = ("_budget", "drop", "dropped", "size", "tenant")

    def __init__(self, budget: Budget, tenant: str, drop: Callable[[], None] | None) -> None:
        self._budget = budget
        self.tenant = tenant
        self.drop = drop
        self.dropped = False
        self.size = 0

    def resize(self, size: int) -> bool:
        """Count `size` bytes from now on. Returns False if there is no room for them.

        Others, or this client itself, may have to give way.
        """
        counted = 0 if size <= FREE_BYTES or self.dropped else size
        if by_bytes := counted - self.size:
            self.size = counted
            self._budget.change(self, by_bytes)
        return not (self.dropped or (counted and self._budget.exceeded(self.tenant)))

    def give_way(self) -> None:
        """Count nothing any more, and call `drop`."""
        drop, self.drop = self.drop, None
        self.resize(0)
        self.dropped = True
        if drop is not None:
            drop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.drop = None
        self.resize(0)
