"""A 503 is tried again on another server, whichever server has the fewest requests outstanding."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from tests.deploy.proxies import CONFIGS, proxying
from tests.integration.server import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.deploy.proxies import Proxy

RUNS = 30
"""Among so many, a server that is chosen by chance is not always the right one."""


class Stub:
    """A server that refuses what it has no room for, at once."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.running = 0
        self.refused = 0
        self.ended = asyncio.Event()
        self.port = 0
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/readyz", self._ready)
        app.router.add_post("/run", self._run)
        self._runner = web.AppRunner(app, shutdown_timeout=0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _ready(self, _request: web.Request) -> web.Response:
        return web.json_response({})

    async def _run(self, request: web.Request) -> web.Response:
        if self.running == self.room:
            self.refused += 1
            return web.json_response({}, status=503, headers={"Retry-After": "1"})
        self.running += 1
        if (await request.json())["holds"]:
            await self.ended.wait()
        self.running -= 1
        return web.json_response({})


@contextlib.asynccontextmanager
async def behind(name: str, directory: Path, *stubs: Stub) -> AsyncIterator[Proxy]:
    """Start stubs, and a proxy before them."""
    for stub in stubs:
        await stub.start()
    try:
        async with proxying(name, directory / name, [stub.port for stub in stubs]) as proxy:
            yield proxy
    finally:
        for stub in stubs:
            stub.ended.set()
            await stub.stop()


async def status(proxy: Proxy, *, holds: bool = False) -> int:
    return (await proxy.request("POST", "/run", json={"holds": holds})).status


@pytest.mark.deployment
@pytest.mark.parametrize("name", sorted(CONFIGS))
async def test_a_full_server_with_the_fewest_requests_costs_no_refusal(
    name: str, tmp_path: Path
) -> None:
    """As a small one beside a large one, or one that others than this proxy have filled."""
    full, large = Stub(room=0), Stub(room=100)
    async with behind(name, tmp_path, full, large) as proxy:
        held = [asyncio.create_task(status(proxy, holds=True)) for _ in range(3)]

        async def all_held() -> bool:
            return large.running == len(held)

        await until(all_held, "all runs that go on are where there is room")
        before = full.refused
        told = [await status(proxy) for _ in range(RUNS)]
        assert told == [200] * RUNS
        # It has been a first choice, but not always: what a further try has placed does not count
        # for the next first one. And of further ones it is one at most.
        assert 0 < full.refused - before <= 2 * RUNS
        large.ended.set()
        assert await asyncio.gather(*held) == [200] * len(held)


@pytest.mark.deployment
async def test_each_of_three_servers_is_asked_before_a_run_is_refused(tmp_path: Path) -> None:
    stubs = [Stub(room=0), Stub(room=0), Stub(room=100)]
    async with behind("envoy", tmp_path, *stubs) as proxy:
        held = asyncio.create_task(status(proxy, holds=True))

        async def one_held() -> bool:
            return stubs[-1].running == 1

        await until(one_held, "a run goes on where there is room")
        assert [await status(proxy) for _ in range(RUNS)] == [200] * RUNS
        stubs[-1].ended.set()
        assert await held == 200

        stubs[-1].room = 0
        before = [stub.refused for stub in stubs]
        # All at once: there may be as many further tries as requests.
        assert await asyncio.gather(*(status(proxy) for _ in range(RUNS))) == [503] * RUNS
        asked = [stub.refused - n for stub, n in zip(stubs, before, strict=True)]
        assert min(asked) >= RUNS
        assert sum(asked) == 4 * RUNS


@pytest.mark.deployment
@pytest.mark.parametrize("name", sorted(CONFIGS))
async def test_a_client_that_speaks_http_1_0_is_served(name: str, tmp_path: Path) -> None:
    """As servers do that stand before a proxy, for TLS or access."""
    async with behind(name, tmp_path, Stub(room=1), Stub(room=1)) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        body = b'{"holds": false}'
        writer.write(b"POST /run HTTP/1.0\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        answer = await reader.read()
        writer.close()
    assert answer.split(b"\r\n")[0].split()[1] == b"200", answer
