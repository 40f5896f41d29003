"""Send a long answer from its only copy, piece by piece as the client takes it.

aiohttp would make another copy, with the head, and pass it on as a whole; the transport would keep
the part that the client has not taken. So this module cuts the answer, and counts it while it is
held.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from aiohttp import web

from pgexec.http.errors import JSON_HEADERS
from pgexec.http.record import GONE, RECORD, SENDER
from pgexec.http.texts import Lazy
from pool.turns import turn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgexec.http.budget import Budget

CHUNK_BYTES = 32 << 10
JOINED_PIECES = 8
"""So many pieces, which may be small and yet much work, are joined to one at the most."""
Document = Sequence[bytes | Lazy]
"""A document of JSON in parts."""


async def deliver(request: web.Request, document: Document, budget: Budget) -> web.StreamResponse:
    """Send the parts of a JSON document as the answer, with status 200.

    If the client hangs up, or has to give way in the budget, the record notes it as gone.
    """
    record, response = request[RECORD], web.StreamResponse(headers=JSON_HEADERS)
    response.content_length = sum(map(len, document))
    record.sign(response, request.app[SENDER])
    with budget.hold(record.holder, lambda: abort(request)) as held:
        held.resize(held_bytes(document))
        try:
            await response.prepare(request)
            pieces = cut(document)
            last = next(pieces, b"")
            for piece in pieces:
                await response.write(last)
                await turn()
                last = piece
            # Whoever has the last piece may leave: a wait after it would take that for hanging up.
            await response.write_eof(bytes(last))
        except ConnectionError:
            record.code, record.status = "client_gone", GONE
    return response


async def joined(document: Document) -> bytearray:
    """Return a whole document, put together in turns with all other large work."""
    whole = bytearray()
    for piece in cut(document):
        whole += piece
        if len(piece) > CHUNK_BYTES // 2:
            await turn()
    return whole


def abort(request: web.Request) -> None:
    """Close a connection at once; bytes that are not sent yet are lost."""
    if (transport := request.transport) is not None:
        transport.abort()


def cut(document: Document) -> Iterator[bytes | memoryview]:
    """Yield a document in pieces of about `CHUNK_BYTES`, or less."""
    small: list[bytes] = []
    size = 0
    for part in document:
        for piece in (part,) if isinstance(part, bytes) else part.pieces():
            if size + len(piece) > CHUNK_BYTES or len(small) == JOINED_PIECES:
                if small:
                    yield b"".join(small)
                small, size = [], 0
            if len(piece) <= CHUNK_BYTES:
                small.append(piece)
                size += len(piece)
                continue
            whole = memoryview(piece)
            for start in range(0, len(piece), CHUNK_BYTES):
                yield whole[start : start + CHUNK_BYTES]
    if small:
        yield b"".join(small)


def held_bytes(document: Document) -> int:
    """Return the bytes of a document in memory; a part that is in it twice counts once."""
    sizes = {
        id(part): len(part) if isinstance(part, bytes) else part.held_bytes for part in document
    }
    return sum(sizes.values())
