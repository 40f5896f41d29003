"""The smallest HTTP client that keeps its connection, so that it hardly counts in a figure.

One `asyncio.Protocol` per connection, on uvloop, no header parsing beyond status and
`Content-Length`: about 0.1 ms of the client's own for a round trip (the table's `/ping`
row bounds it from above).
"""

from __future__ import annotations

import asyncio
import json
import re
from typing import cast

from bench.errors import BrokenConnectionError

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


def get(path: str) -> bytes:
    """Return the bytes of a GET request."""
    return f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode()


def post_run(code: str, **fields: object) -> bytes:
    """Return the bytes of a `POST /run`."""
    body = json.dumps({"language": "python", "code": code, "dependencies": [], **fields}).encode()
    head = (
        "POST /run HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class ClientConnection(asyncio.Protocol):
    """One kept-alive connection; one request at a time."""

    def __init__(self) -> None:
        self.stray_bytes = 0
        """What came without having been asked for: an answer too many."""
        self._received = bytearray()
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def open(cls, port: int) -> ClientConnection:
        """Connect to a server on the loopback interface."""
        loop = asyncio.get_running_loop()
        return (await loop.create_connection(cls, "127.0.0.1", port))[1]

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Send a request; return the answer's status and body, or raise `BrokenConnectionError`."""
        self.send(request)
        assert self._answer is not None
        try:
            return await self._answer
        finally:
            self._answer = None

    def send(self, request: bytes) -> None:
        """Send a request without waiting for its answer."""
        if self._transport is None or self._transport.is_closing():
            raise BrokenConnectionError("the connection is closed")
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits for an answer that there will be none."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(
                BrokenConnectionError(f"the connection was closed: {exc or 'by the peer'}")
            )
            self._answer.exception()  # retrieved: whoever hung up does not wait

    def data_received(self, data: bytes) -> None:
        """Collect an answer."""
        if self._answer is None or self._answer.done():
            self.stray_bytes += len(data)
            return
        self._received += data
        head_end = self._received.find(b"\r\n\r\n")
        if head_end < 0:
            return
        length = _LENGTH.search(self._received, 0, head_end)
        if length is None and self._received[9:12] == b"204":
            self._received[head_end:head_end] = b"\r\nContent-Length: 0"
            self.data_received(b"")
            return
        if length is None:
            self._answer.set_exception(BrokenConnectionError("an answer without Content-Length"))
            return
        end = head_end + 4 + int(length[1])
        if len(self._received) < end:
            return
        status, body = int(self._received[9:12]), bytes(self._received[head_end + 4 : end])
        self.stray_bytes += len(self._received) - end
        self._received.clear()
        self._answer.set_result((status, body))
