"""What slow clients of one tenant do to another tenant's `print(1)`, and to the server's memory.

They take next to nothing of the largest answer that there is, as JSON and as events, or send the
largest body that there is without its last byte, and stay. The other tenant is timed without them,
while they come, and while they stay, in turns. Both have the share of the containers that tenants
have by default.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from bench.client import ClientConnection, post_run
from bench.errors import AnswerError
from bench.report import Section, median, milliseconds
from bench.server import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from bench.bed import Bed
    from bench.server import Server

    _Come = Callable[[Server, contextlib.AsyncExitStack], Coroutine[None, None, None]]

CROWD = 200
AT_ONCE = 4
ROUNDS = 3
SLICE_S = 3.0
PAUSE_S = 0.005
"""Between two runs of the tenant that is timed, as of a client that does something with each."""
FIRST_BYTES = 1000
SETTLE_S = 60.0
LARGEST = (
    "import sys\nfor out in (sys.stdout, sys.stderr): out.write('\\x01' * (1 << 19)); out.flush()"
)
WANTED_TIMES = 2
WANTED_MIB = 300


@dataclass(slots=True)
class _Timed:
    """The seconds that runs took without the readers, while they came, and while they stayed."""

    alone: list[float] = field(default_factory=list)
    coming: list[float] = field(default_factory=list)
    staying: list[float] = field(default_factory=list)
    most_mib: float = 0.0


def _as(key: str, request: bytes, accept: str = "application/json") -> bytes:
    fields = f"Authorization: Bearer {key}\r\nAccept: {accept}\r\n"
    return request.replace(b"\r\n", b"\r\n" + fields.encode(), 1)


PRINT = _as("two", post_run("print(1)"))


async def measure(_bed: Bed) -> Section:
    """Measure for both kinds of answers."""
    section = Section(
        f"{CROWD} slow readers of the largest answer or senders of the largest body, and another "
        "tenant's print(1)"
    )
    async with serving(
        api_keys="alice:one,bob:two",
        metrics_public="true",
        pool_min_idle=4,
        pool_max_containers=4,
        lease_timeout_s=60,
        network="none",
    ) as server:
        for kind, come in KINDS.items():
            timed = await _measure(server, come)
            idle = median(timed.alone)
            section.row(f"{kind}: without them", **milliseconds(timed.alone))
            section.row("  while they come", **milliseconds(timed.coming))
            section.row("  while they stay", **milliseconds(timed.staying))
            for when, took in (("come", timed.coming), ("stay", timed.staying)):
                times = median(took) / idle
                section.want_at_most(
                    f"{kind}, p50 while they {when} / without", times, WANTED_TIMES
                )
            section.want_at_most(f"{kind}, the server's most MiB", timed.most_mib, WANTED_MIB)
    section.note(
        "while they come, their runs are made, and the answers rendered, on the same cores"
    )
    section.note(f"{AT_ONCE} readers ask at a time; each has taken {FIRST_BYTES} bytes")
    section.note("all bodies come at once; those over the budget are refused, others time out")
    return section


async def _measure(server: Server, come: _Come) -> _Timed:
    timed = _Timed()
    connection = await ClientConnection.open(server.port)
    try:
        for _ in range(ROUNDS):
            await _print_for(SLICE_S, connection, timed.alone)
            async with contextlib.AsyncExitStack() as stack:
                coming = asyncio.create_task(come(server, stack))
                try:
                    while not coming.done():
                        await _print_for(0.1, connection, timed.coming)
                        timed.most_mib = max(timed.most_mib, server.usage().rss_mib)
                    await coming
                finally:
                    coming.cancel()
                await _print_for(SLICE_S, connection, timed.staying)
                timed.most_mib = max(timed.most_mib, server.usage().rss_mib)
            await server.settled()
    finally:
        connection.close()
    return timed


async def _print_for(seconds: float, connection: ClientConnection, took_s: list[float]) -> None:
    until = time.perf_counter() + seconds
    while (asked := time.perf_counter()) < until:
        status, body = await connection.ask(PRINT)
        took_s.append(time.perf_counter() - asked)
        if status != 200:
            raise AnswerError(f"HTTP {status}: {body[:300]!r}")
        await asyncio.sleep(PAUSE_S)


async def _read_slowly(accept: str, server: Server, stack: contextlib.AsyncExitStack) -> None:
    """Let readers come. Events begin before the run, so wait until no run is left, too."""
    request = _as("one", post_run(LARGEST), accept)
    loop, turns = asyncio.get_running_loop(), asyncio.Semaphore(AT_ONCE)

    async def one() -> None:
        async with turns:
            client = await stack.enter_async_context(_connected(server))
            await loop.sock_sendall(client, request)
            first = await loop.sock_recv(client, FIRST_BYTES)
            if not first.startswith(b"HTTP/1.1 200"):
                raise AnswerError(first.decode("latin-1"))

    async with asyncio.TaskGroup() as group:
        for _ in range(CROWD):
            group.create_task(one())
    await server.settled(SETTLE_S)


async def _hold_back(server: Server, stack: contextlib.AsyncExitStack) -> None:
    """Let senders come, of whom each keeps the last byte of its body."""
    text = "\x01" * ((1 << 20) - 1)
    body = _as("one", post_run("#" + text, stdin=text))[:-1]

    async def one() -> None:
        client = await stack.enter_async_context(_connected(server))
        with contextlib.suppress(ConnectionError):  # refused
            await asyncio.get_running_loop().sock_sendall(client, body)

    async with asyncio.TaskGroup() as group:
        for _ in range(CROWD):
            group.create_task(one())


@contextlib.asynccontextmanager
async def _connected(server: Server) -> AsyncIterator[socket.socket]:
    """Connect a client that buffers next to nothing."""
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)  # noqa: FBT003  # its only parameter
        await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", server.port))
        yield client


KINDS: dict[str, _Come] = {
    "JSON": partial(_read_slowly, "application/json"),
    "events": partial(_read_slowly, "text/event-stream"),
    "bodies": _hold_back,
}
