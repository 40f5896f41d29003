"""A budget for what clients make the server hold: bodies that are held back, answers not taken.

What a client has of 16 KiB or less is not counted: the bound on connections bounds that. Where
the budget is exceeded, the tenant that holds the most gives way, and of its clients the one that
has held more than that for the longest. So a client that keeps up is not the one that is dropped,
and a tenant that holds little never gives way to another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

FREE_BYTES = 16 << 10
"""What a client may have held without its being counted."""


class Budget:
    """At most `limit_bytes` in all, of which one tenant may have three quarters."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.held_bytes = 0
        self._tenant_bytes = limit_bytes - limit_bytes // 4
        self._held: dict[str, dict[Held, None]] = {}  # by tenant, the longest held first
        self._bytes: dict[str, int] = {}

    def hold(self, tenant: str, drop: Callable[[], None] | None = None) -> Held:
        """Return what one client of a tenant has held, nothing as yet; use as `with`.

        `drop` is called once if it has to give way, and makes the client's request end.
        """
        return Held(self, tenant, drop)

    def change(self, held: Held, by_bytes: int) -> None:
        """Count more or less for `held`, and have others give way for it."""
        tenant = held.tenant
        own = self._held.setdefault(tenant, {})
        if held.size:
            own[held] = None
        else:
            own.pop(held, None)
        self.held_bytes += by_bytes
        self._bytes[tenant] = self._bytes.get(tenant, 0) + by_bytes
        if not own:
            del self._held[tenant], self._bytes[tenant]
        if by_bytes > 0:
            self._make_room(tenant)

    def exceeded(self, tenant: str) -> bool:
        """Whether more is held than may be, in all or by this tenant."""
        return self._bytes.get(tenant, 0) > self._tenant_bytes or (
            self.held_bytes > self.limit_bytes
        )

    def _make_room(self, tenant: str) -> None:
        while self.exceeded(tenant):
            own_fault = self._bytes.get(tenant, 0) > self._tenant_bytes
            greediest = tenant if own_fault else max(self._bytes, key=self._bytes.__getitem__)
            victim = next((one for one in self._held[greediest] if one.drop is not None), None)
            if victim is None:
                return
            victim.give_way()


class Held:
    """What one client has the server hold; `size` are its bytes, as far as they are counted.

    `drop` is `None` where it cannot give way, and once it has.
    """

    __slots__ = ("_budget", "drop", "dropped", "size", "tenant")

    def __init__(self, budget: Budget, tenant: str, drop: Callable[[], None] | None) -> None:
        self._budget = budget
        self.tenant = tenant
        self.drop = drop
        self.dropped = False
        self.size = 0

    def resize(self, size: int) -> bool:
        """Count `size` bytes from now on, and return whether there is room for them.

        Others may have to give way for it, or it itself.
        """
        counted = 0 if size <= FREE_BYTES or self.dropped else size
        if by_bytes := counted - self.size:
            self.size = counted
            self._budget.change(self, by_bytes)
        return not (self.dropped or (counted and self._budget.exceeded(self.tenant)))

    def give_way(self) -> None:
        """Count no more, and tell the one that holds it."""
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
