"""Clients that make the server hold as much as they can: it stays small, and serves the others."""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.server import run_request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.integration.server import Server, StartServer

CROWD = 200
AT_ONCE = 8
MOST_MIB = 300
CONTROL = "import sys\nfor stream in {streams}: stream.write('\\x01' * {each}); stream.flush()"
WHOLE = 1 << 20

pytestmark = pytest.mark.timeout(600)


def rss_mib(server: Server) -> float:
    pages = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize() / (1 << 20)


async def begin(start: StartServer, **settings: object) -> Server:
    return await start(
        API_KEYS="alice:one,bob:two",
        POOL_MIN_IDLE=4,
        POOL_MAX_CONTAINERS=4,
        TENANT_MAX_RUNNING=0,
        LEASE_TIMEOUT_S=60,
        **settings,
    )


@contextlib.asynccontextmanager
async def connected(server: Server) -> AsyncIterator[socket.socket]:
    """Connect a client that buffers next to nothing."""
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)  # noqa: FBT003  # its only parameter
        await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", server.port))
        yield client


def with_head(request: bytes, *lines: str) -> bytes:
    added = "".join(f"{line}\r\n" for line in ("Authorization: Bearer one", *lines))
    return request.replace(b"\r\n", b"\r\n" + added.encode(), 1)


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
@pytest.mark.parametrize("streams", ["(sys.stdout,)", "(sys.stdout, sys.stderr)"])
async def test_two_hundred_that_take_nothing_of_the_largest_answer(
    start: StartServer, accept: str, streams: str
) -> None:
    server = await begin(start)
    loop = asyncio.get_running_loop()
    each = WHOLE // (1 + ("stderr" in streams))
    request = with_head(
        run_request(CONTROL.format(streams=streams, each=each)), f"Accept: {accept}"
    )
    turns = asyncio.Semaphore(AT_ONCE)
    most = 0.0

    async with contextlib.AsyncExitStack() as stack:

        async def ask() -> None:
            nonlocal most
            async with turns:
                client = await stack.enter_async_context(connected(server))
                await loop.sock_sendall(client, request)
                assert (await loop.sock_recv(client, 1000)).startswith(b"HTTP/1.1 200")
            most = max(most, rss_mib(server))

        async with asyncio.TaskGroup() as group:
            for _ in range(CROWD):
                group.create_task(ask())
        for _ in range(50):
            assert await server.output("print(1)", key="two") == "1\n"
            most = max(most, rss_mib(server))
    assert most < MOST_MIB
    answer = await server.run(CONTROL.format(streams=streams, each=each), key="one")
    assert len(answer.json["data"]) == WHOLE


async def test_two_hundred_bodies_that_are_held_back(start: StartServer) -> None:
    server = await begin(start, REQUEST_TIMEOUT_S=60)
    loop = asyncio.get_running_loop()
    text = "#" + "\x01" * ((1 << 20) - 1)
    request = with_head(run_request(text, stdin=text[1:] + "\x01"))
    assert len(request) > 12 << 20
    most = 0.0
    refused: list[asyncio.Future[bytes]] = []

    async with contextlib.AsyncExitStack() as stack:

        async def send() -> None:
            client = await stack.enter_async_context(connected(server))
            with contextlib.suppress(ConnectionError):
                await loop.sock_sendall(client, request[:-1])
            answering = asyncio.ensure_future(loop.sock_recv(client, 4096))
            answering.add_done_callback(refused.append)

        async with asyncio.TaskGroup() as group:
            for _ in range(CROWD):
                group.create_task(send())
        for _ in range(50):
            assert await server.output("print(1)", key="two") == "1\n"
            most = max(most, rss_mib(server))
        answers = [one.result() for one in refused if one.exception() is None]
    assert most < MOST_MIB
    assert len(answers) > CROWD // 2
    for answer in filter(None, answers):
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503")
        assert json.loads(body)["code"] == "too_many_bytes"
    assert await server.output("print(1)", key="one", stdin="x" * (1 << 20)) == "1\n"
