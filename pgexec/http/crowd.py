"""The limit on connections, which bounds the memory and the open files of many clients.

If all places are taken, the connection that has been idle for the longest makes way for a new one.
If every connection has a request in progress, the new one gets an error, and is closed.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final, Protocol

from pgexec.http.errors import JSON_HEADERS, Problem
from pgexec.http.record import NAME_HEADER, request_id

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

logger = logging.getLogger("pgexec.connection")

LINGER_S: Final = 2.0
"""A refused connection is kept for so many seconds, so that its client can read the error: if it
were closed at once, it would be reset."""
_LINGERING: Final = 256
"""So many refused connections are kept; further ones are closed at once."""
_LOG_EVERY_S: Final = 60.0


class Member(Protocol):
    """The part of a connection on which its place depends."""

    @property
    def idle_since(self) -> float | None:
        """The time at which it became idle, of any clock that all members share; else `None`."""
        ...

    def force_close(self) -> None:
        """Close the connection."""
        ...


class Crowd:
    """The open connections, at most `places`."""

    def __init__(self, places: int) -> None:
        self.places = places
        self._members: set[Member] = set()
        self._refused: set[asyncio.Transport] = set()
        self._log_at = 0.0

    def __len__(self) -> int:
        return len(self._members)

    def enter(self, member: Member) -> bool:
        """Take a connection in, perhaps in place of an idle one. Returns False without a place."""
        if len(self._members) >= self.places and not self._make_place():
            return False
        self._members.add(member)
        return True

    def leave(self, member: Member) -> None:
        """Remove a connection, if it is in."""
        self._members.discard(member)

    def _make_place(self) -> bool:
        # This looks at all connections, but only if a new one comes while the server is full.
        idle = [(since, member) for member in self._members if (since := member.idle_since)]
        if not idle:
            return False
        _, longest = min(idle, key=lambda one: one[0])
        self._members.discard(longest)
        longest.force_close()
        return True

    def refuse(
        self, transport: asyncio.Transport, call_later: Callable[..., object], name: str
    ) -> None:
        """Answer a connection that found no place, in the server's name, and close it."""
        now = time.monotonic()
        if now >= self._log_at:
            self._log_at = now + _LOG_EVERY_S
            logger.warning(
                "%d connections are open and busy, as many as PGEXEC_MAX_CONNECTIONS allows: "
                "further ones are refused",
                self.places,
            )
        transport.write(_answer(self.places, name))
        if len(self._refused) >= _LINGERING or not transport.can_write_eof():
            transport.close()
            return
        transport.write_eof()
        self._refused.add(transport)
        call_later(LINGER_S, self._let_go, transport)

    def _let_go(self, transport: asyncio.Transport) -> None:
        self._refused.discard(transport)
        transport.abort()


def _answer(places: int, name: str) -> bytes:
    sentence = f"the server has {places} busy connections, as many as it may: come back later"
    body = Problem(503, "too_many_connections", sentence).body
    head = {
        **JSON_HEADERS,
        "X-Request-ID": request_id(None),
        **({NAME_HEADER: name} if name else {}),
        "Retry-After": "1",
        "Content-Length": str(len(body)),
        "Connection": "close",
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    return f"HTTP/1.1 503 Service Unavailable\r\n{lines}\r\n".encode() + body
