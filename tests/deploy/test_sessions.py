"""Proxies send what belongs to a session to the server where it lives, by its id alone."""

from __future__ import annotations

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
    from tests.integration.server import Answer, StartServer

NAMES = ("one", "two")
TOKEN = "Ab_9-x"


class Stub:
    """A server that says its name, whatever it is asked."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.ready = True
        self.port = 0
        self._runner: web.AppRunner | None = None

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        if request.path == "/readyz":
            return web.json_response({}, status=200 if self.ready else 503)
        return web.json_response({"server": self.name, "path": request.path_qs})


@pytest.fixture
async def stubs() -> AsyncIterator[dict[str, Stub]]:
    made = {name: Stub(name) for name in NAMES}
    for stub in made.values():
        await stub.start()
    yield made
    for stub in made.values():
        with contextlib.suppress(RuntimeError):
            await stub.stop()


@pytest.fixture(params=sorted(CONFIGS))
async def proxy(
    request: pytest.FixtureRequest, stubs: dict[str, Stub], tmp_path: Path
) -> AsyncIterator[Proxy]:
    ports = [stub.port for stub in stubs.values()]
    async with proxying(request.param, tmp_path / request.param, ports) as proxy:
        yield proxy


async def served_by(proxy: Proxy, path: str) -> str:
    answer = await proxy.request("POST", path, json={})
    assert answer.status == 200, answer.body
    assert answer.json["path"] == path
    return str(answer.json["server"])


@pytest.mark.deployment
async def test_a_session_is_found_by_the_name_that_its_id_begins_with(
    proxy: Proxy, stubs: dict[str, Stub]
) -> None:
    for name in NAMES:
        ways = ("", "/run", "?a=b", "/run?path=/sessions/other.x/run", "/files/a.txt")
        for way in ways:
            assert await served_by(proxy, f"/sessions/{name}.{TOKEN}{way}") == name
    # What belongs to no session, or to one without a server's name, goes anywhere.
    for path in ("/sessions", f"/sessions/{TOKEN}/run", "/run", "/sessions/"):
        await served_by(proxy, path)

    # A server that takes nothing new goes on with the sessions that it has.
    stubs["one"].ready = False
    for _ in range(4):
        assert await served_by(proxy, f"/sessions/one.{TOKEN}/run") == "one"


@pytest.mark.deployment
async def test_what_became_of_the_server_of_a_session_is_said(
    proxy: Proxy, stubs: dict[str, Stub]
) -> None:
    await stubs["two"].stop()
    answer = await proxy.request("POST", f"/sessions/two.{TOKEN}/run", json={})
    # Nothing ran, and the server may come back; then it knows that it has no such session.
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1"), answer.body
    assert set(answer.json) == {"data", "error", "code"}
    assert answer.code == ("session_away" if proxy.name == "envoy" else "no_server")
    assert await served_by(proxy, f"/sessions/one.{TOKEN}/run") == "one"

    # A name that is not in the file: Envoy says so itself, HAProxy lets any server say it.
    answer = await proxy.request("POST", f"/sessions/three.{TOKEN}/run", json={})
    if proxy.name == "envoy":
        assert (answer.status, answer.code) == (404, "no_session")
        assert "Retry-After" not in answer.headers
    else:
        assert answer.json["server"] == "one"


@pytest.mark.deployment
async def test_where_servers_are_found_by_dns_an_address_is_the_name(tmp_path: Path) -> None:
    """As in a Swarm or a cluster; and no client makes Envoy connect to anything else."""
    stubs = {f"127.0.0.{number}": Stub(f"127.0.0.{number}") for number in (2, 3, 4)}
    port = 0
    for address, stub in stubs.items():
        await stub.start(address, port)
        port = stub.port

    def by_address(text: str) -> str:
        assert "substitution: '\\1:8080'" in text
        text = text.replace("substitution: '\\1:8080'", f"substitution: '\\1:{port}'")
        for address, shipped in (("127.0.0.2", "8081"), ("127.0.0.3", "8082")):
            text = text.replace(
                f"127.0.0.1, port_value: {shipped}", f"{address}, port_value: {shipped}"
            )
        return text

    try:
        async with proxying("envoy", tmp_path / "envoy", [port, port], change=by_address) as proxy:
            for name in ("127.0.0.2", "127.0.0.3"):
                assert await served_by(proxy, f"/sessions/{name}.{TOKEN}/run") == name
            answer = await proxy.request("POST", f"/sessions/127.0.0.4.{TOKEN}/run", json={})
            assert (answer.status, answer.code) == (404, "no_session")
    finally:
        for stub in stubs.values():
            await stub.stop()


@pytest.mark.deployment
@pytest.mark.parametrize("name", sorted(CONFIGS))
async def test_sessions_of_real_servers_go_on_where_they_began(
    name: str, start: StartServer, tmp_path: Path
) -> None:
    settings = {"POOL_MIN_IDLE": 2, "POOL_MAX_CONTAINERS": 4}
    servers = [await start(SERVER_NAME=one, **settings) for one in NAMES]
    async with proxying(name, tmp_path / name, [server.port for server in servers]) as proxy:
        ids: dict[str, str] = {}

        async def both() -> bool:
            made = await proxy.request("POST", "/sessions", json={"language": "python"})
            if made.status == 503:  # half of a server's containers may be sessions
                return False
            assert made.status == 201, made.body
            server = made.headers["X-Pgexec-Server"]
            assert made.json["id"].startswith(f"{server}.")
            ids[server] = made.json["id"]
            return set(ids) == set(NAMES)

        await until(both, "a session on each server")

        async def cell(session: str, code: str) -> Answer:
            return await proxy.request("POST", f"/sessions/{session}/run", json={"code": code})

        for number, session in enumerate(ids.values()):
            assert (await cell(session, f"x = {number}")).status == 200
        for _ in range(4):
            for number, (server, session) in enumerate(ids.items()):
                answer = await cell(session, "x")
                assert answer.headers["X-Pgexec-Server"] == server
                assert answer.json["value"] == str(number)

        # The server of one dies: its sessions are away, those of the other go on.
        servers[0].process.kill()
        await servers[0].ended()
        answer = await cell(ids["one"], "x")
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1"), answer.body
        assert (await cell(ids["two"], "x")).status == 200
        # An id that no server under its name has made is none.
        answer = await proxy.request("GET", f"/sessions/two.{TOKEN}")
        assert (answer.status, answer.code) == (404, "no_session")
