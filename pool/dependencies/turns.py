"""The places for installations at the same time; tenants take turns for them."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from typing import TYPE_CHECKING

from pool.tenant import owner

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection

REMEMBERED = 1000
"""The greatest number of tenants whose last turn is remembered."""


class Turns:
    """A number of places, each for one installation.

    A free place goes to the tenant with the fewest installations; among equals, to the one whose
    last turn is longest ago. A tenant counts with all its users, and these take turns in the same
    way. A tenant with a name never has the last place: an installation takes minutes, and another
    tenant would wait for all of them. The server's own installations, and those of a server without
    API keys, have no tenant (`""`) and may take all places. An
    installation for which several tenants wait has the turn of the one that comes first.
    """

    def __init__(self, places: int) -> None:
        self._free = places
        self._limit = max(1, places - 1)
        self._running: Counter[str] = Counter()
        self._last_turn: dict[str, int] = {}
        self._turns = 0
        # The first that came is the first. The tenants of an installation may change.
        self._waiting: dict[asyncio.Future[str], Collection[str]] = {}

    @contextlib.asynccontextmanager
    async def of(self, tenants: Collection[str]) -> AsyncIterator[None]:
        """Wait for a place for any of the tenants, and keep it until the block ends."""
        turn: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting[turn] = tenants
        self.serve()
        try:
            tenant = await turn
        except BaseException:
            # Cancelled after the place was given, before this task woke up. Without this, nobody
            # would ever have that place again.
            if self._waiting.pop(turn, None) is None:
                self._give_back(turn.result())
            raise
        try:
            yield
        finally:
            self._give_back(tenant)

    def _give_back(self, tenant: str) -> None:
        self._free += 1
        for name in {tenant, owner(tenant)}:
            self._running[name] -= 1
            if not self._running[name]:
                del self._running[name]
        self.serve()

    def serve(self) -> None:
        """Give the free places away; to be called when the tenants of an installation change."""
        while self._free:
            may = [
                (turn, tenant)
                for turn, tenants in self._waiting.items()
                for tenant in tenants
                if not turn.done() and self._may_run(tenant)
            ]
            if not may:
                return
            turn, tenant = min(may, key=lambda one: self._precedence(one[1]))
            del self._waiting[turn]
            self._free -= 1
            self._turns += 1
            for name in {tenant, owner(tenant)}:
                self._running[name] += 1
                self._last_turn.pop(name, None)
                self._last_turn[name] = self._turns
            while len(self._last_turn) > REMEMBERED:
                # The users of a trusted key may be very many; those of long ago come first anyway.
                del self._last_turn[next(iter(self._last_turn))]
            turn.set_result(tenant)

    def _may_run(self, tenant: str) -> bool:
        return not tenant or self._running[owner(tenant)] < self._limit

    def _precedence(self, tenant: str) -> tuple[int, int, int, int]:
        first, then = owner(tenant), tenant
        return (
            self._running[first],
            self._last_turn.get(first, 0),
            self._running[then],
            self._last_turn.get(then, 0),
        )
