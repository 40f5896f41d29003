"""The bound on connections: what the many may take of memory and open files.

When all places are taken, the connection that has been idle for the longest makes way for a new
one. Where each has a request in progress, the new one is told so and closed.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final, Protocol

from pgexec.http.errors import JSON_HEADERS, Problem
from pgexec.http.record import request_id

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

logger = logging.getLogger("pgexec.connection")

LINGER_S: Final = 2.0
"""How long a refused connection is kept for its client to read why: closing at once resets it."""
_LINGERING: Final = 256
"""How many are; further ones are closed at once."""
_LOG_EVERY_S: Final = 60.0


class Member(Protocol):
    """A connection, as far as it may have to make way."""

    @property
    def idle_since(self) -> float | None:
        """When it became idle, on any clock that all members share; `None` if it is not."""
        ...

    def force_close(self) -> None:
        """Close it."""
        ...


class Crowd:
    """The connections that are open, at most `places`."""

    def __init__(self, places: int) -> None:
        self.places = places
        self._members: set[Member] = set()
        self._refused: set[asyncio.Transport] = set()
        self._log_at = 0.0

    def __len__(self) -> int:
        return len(self._members)

    def enter(self, member: Member) -> bool:
        """Take a connection in, if there is a place or one can be made."""
        if len(self._members) >= self.places and not self._make_place():
            return False
        self._members.add(member)
        return True

    def leave(self, member: Member) -> None:
        """Forget a connection, if it is in."""
        self._members.discard(member)

    def _make_place(self) -> bool:
        # Through all of them, but only where a new one comes while the server is full.
        idle = [(since, member) for member in self._members if (since := member.idle_since)]
        if not idle:
            return False
        _, longest = min(idle, key=lambda one: one[0])
        self._members.discard(longest)
        longest.force_close()
        return True

    def refuse(self, transport: asyncio.Transport, call_later: Callable[..., object]) -> None:
        """Answer a connection that found no place, and close it."""
        now = time.monotonic()
        if now >= self._log_at:
            self._log_at = now + _LOG_EVERY_S
            logger.warning(
                "%d connections are open and busy, as many as PGEXEC_MAX_CONNECTIONS allows: "
                "further ones are refused",
                self.places,
            )
        transport.write(_answer(self.places))
        if len(self._refused) >= _LINGERING or not transport.can_write_eof():
            transport.close()
            return
        transport.write_eof()
        self._refused.add(transport)
        call_later(LINGER_S, self._let_go, transport)

    def _let_go(self, transport: asyncio.Transport) -> None:
        self._refused.discard(transport)
        transport.abort()


def _answer(places: int) -> bytes:
    sentence = f"the server has {places} busy connections, as many as it may: come back later"
    body = Problem(503, "too_many_connections", sentence).body
    head = {
        **JSON_HEADERS,
        "X-Request-ID": request_id(None),
        "Retry-After": "1",
        "Content-Length": str(len(body)),
        "Connection": "close",
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    return f"HTTP/1.1 503 Service Unavailable\r\n{lines}\r\n".encode() + body
