"""Sending a long answer: the one copy that there is of it, piece by piece as the client takes it.

aiohttp would hand it over whole, in one more copy beside its head, and the transport would keep
what the client has not taken. So it is cut here, and counted as long as it is held.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from pgexec.http.errors import JSON_HEADERS
from pgexec.http.record import GONE, RECORD

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pgexec.http.budget import Budget

CHUNK_BYTES = 32 << 10


async def deliver(
    request: web.Request, document: Sequence[bytes], budget: Budget
) -> web.StreamResponse:
    """Send the parts of a JSON document as the answer, of status 200.

    A client that hangs up, or has to give way in the budget, is noted as gone.
    """
    record, response = request[RECORD], web.StreamResponse(headers=JSON_HEADERS)
    response.content_length = sum(map(len, document))
    record.sign(response)
    with budget.hold(record.tenant, lambda: abort(request)) as held:
        held.resize(held_bytes(document))
        try:
            await response.prepare(request)
            for chunk in cut(document):
                await response.write(chunk)
            await response.write_eof()
        except ConnectionError:
            record.code, record.status = "client_gone", GONE
    return response


def abort(request: web.Request) -> None:
    """Close a connection at once; what has not been sent never will be."""
    if (transport := request.transport) is not None:
        transport.abort()


def cut(document: Sequence[bytes]) -> Iterator[memoryview]:
    """Yield the parts of a document in pieces of at most `CHUNK_BYTES`, without copying them."""
    for part in document:
        whole = memoryview(part)
        for start in range(0, len(part), CHUNK_BYTES):
            yield whole[start : start + CHUNK_BYTES]


def held_bytes(document: Sequence[bytes]) -> int:
    """Return what a document takes in memory; a part may be in it twice."""
    return sum({id(part): len(part) for part in document}.values())
