"""A client of the pgexec server for each API key, kept: to make one takes tens of milliseconds."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgexec.client import AsyncClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MAX_KEPT = 32


@dataclass(slots=True)
class _Kept:
    client: AsyncClient
    users: int = 0


class Clients:
    """The clients of one server; `url` is by default that of the environment."""

    def __init__(self, url: str | None = None) -> None:
        self._url = url
        self._kept: dict[str | None, _Kept] = {}

    @asynccontextmanager
    async def lend(self, key: str | None) -> AsyncIterator[AsyncClient]:
        """Lend the client with an API key: `None` is the environment's, an empty one is none.

        Raises `RunRefused` if the server's address is wrong.
        """
        kept = self._kept.pop(key, None) or _Kept(AsyncClient(self._url, key=key))
        self._kept[key] = kept  # as the last one: the one used least recently goes first
        kept.users += 1
        try:
            yield kept.client
        finally:
            kept.users -= 1
            await self._close_surplus()

    async def close(self) -> None:
        """Close all of them."""
        while self._kept:
            await self._kept.popitem()[1].client.close()

    async def _close_surplus(self) -> None:
        # One with users stays, or their runs would end.
        unused = [key for key, kept in self._kept.items() if not kept.users]
        for key in unused[: max(0, len(self._kept) - MAX_KEPT)]:
            await self._kept.pop(key).client.close()
