"""The real proxies before two real servers: nothing is lost, nothing runs twice."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from pgexec.settings import Settings
from tests import sse
from tests.conftest import ROOT
from tests.deploy.proxies import CONFIGS, check, proxying
from tests.integration.server import GATE, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from tests.deploy.proxies import Proxy
    from tests.integration.server import Server, StartServer

ASKED = "pgexec_requests_total{path=/run,status="
CHECKED = "pgexec_requests_total{path=/readyz,"
LEASED = "pgexec_containers{state=leased}"
SMALL = {"POOL_MIN_IDLE": 1, "POOL_MAX_CONTAINERS": 1, "POOL_MAX_WAITING": 1, "LEASE_TIMEOUT_S": 50}
ROOMY = {"POOL_MIN_IDLE": 2, "POOL_MAX_CONTAINERS": 2, "DRAIN_DELAY_S": 4}
NAMES = sorted(CONFIGS)


@pytest.mark.parametrize("name", NAMES)
def test_a_proxy_finds_nothing_wrong_with_its_configuration(name: str) -> None:
    done = subprocess.run(check(name), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_a_proxy_allows_is_what_a_server_does_by_default() -> None:
    settings = Settings.of()
    longest_s = settings.lease_timeout_s + settings.install_timeout_s + settings.run_timeout_s
    envoy, haproxy = (CONFIGS[name].read_text() for name in ("envoy", "haproxy"))
    assert f"request_body_buffer_limit: {settings.body_limit}\n" in envoy
    timeouts_s = [
        *re.findall(r"^ +(?:stream_idle_timeout|timeout): (\d{3,})s", envoy, re.MULTILINE),
        *re.findall(r"^ +timeout (?:client|server) (\d+)s", haproxy, re.MULTILINE),
    ]
    assert len(timeouts_s) == 5
    assert min(map(int, timeouts_s)) > longest_s
    kept_s = [*re.findall(r"idle_timeout: (\d+)s}", envoy)]
    kept_s += re.findall(r"pool-purge-delay (\d+)s", haproxy)
    assert max(map(int, kept_s)) < settings.keepalive_timeout_s


def test_every_file_in_a_command_of_the_guide_is_there() -> None:
    guide = (ROOT / "deploy/README.md").read_text()
    named = set(re.findall(r"deploy/[\w./@-]+\w", guide))
    named -= set(re.findall(r">(deploy/\S+)", guide))  # what a command makes
    assert len(named) >= 8
    assert [path for path in named if not (ROOT / path).exists()] == []


@pytest.fixture
async def servers(request: pytest.FixtureRequest, start: StartServer) -> list[Server]:
    settings = getattr(request, "param", SMALL)
    return [await start(SERVER_NAME=name, **settings) for name in ("one", "two")]


@pytest.fixture(params=NAMES)
async def proxy(
    request: pytest.FixtureRequest, servers: Sequence[Server], tmp_path: Path
) -> AsyncIterator[Proxy]:
    ports = [server.port for server in servers]
    async with proxying(request.param, tmp_path / request.param, ports) as proxy:
        yield proxy


async def of(servers: Sequence[Server], status: int) -> list[float]:
    """Return how many runs each server has answered with a status."""
    return [(await one.metrics()).get(f"{ASKED}{status}}}", 0.0) for one in servers]


@pytest.mark.deployment
async def test_a_run_goes_where_it_can_and_a_503_is_tried_elsewhere(
    proxy: Proxy, servers: Sequence[Server]
) -> None:
    # Least outstanding requests: the next run goes where none is.
    first = asyncio.create_task(proxy.run(GATE + "print('first')"))
    await leasing(servers)
    answers = [await proxy.run("print(1)") for _ in range(4)]
    assert {(answer.status, answer.json["data"]) for answer in answers} == {(200, "1\n")}
    (free,) = {answer.headers["X-Pgexec-Server"] for answer in answers}
    busy = servers[free == "one"]
    await busy.open_gates()
    answer = await first
    assert answer.headers["X-Pgexec-Server"] == busy.settings["SERVER_NAME"] != free

    # A stream comes as it is made.
    body = {"language": "python", "code": "print('early', flush=True)\n" + GATE}
    async with (
        proxy.session() as session,
        session.post("/run", json=body, headers=sse.ASK) as response,
    ):
        events = sse.read(response.content)
        async with asyncio.timeout(20):
            while (event := await anext(events))[0] != "stdout":
                pass
        assert event == ("stdout", {"text": "early\n"})
        # Not of the other: its next run would find its gate open.
        await (await leasing(servers)).open_gates()
        assert [name async for name, _ in events][-1] == "result"

    # One server is full by others' runs; the proxy does not know, and tries again on the other.
    full = servers[0]
    held = [asyncio.create_task(full.run(GATE)) for _ in range(2)]
    await full.sees("pgexec_waiters", 1)
    # The longest is 5 MB of JSON.
    for size in (10, 30_000, *((900_000,) if proxy.name == "envoy" else ())) * 2:
        answer = await proxy.run("print(len(input()))", stdin="\x01" * size, timeout_s=20)
        assert (answer.status, answer.json["data"]) == (200, f"{size}\n"), answer.body
    assert (await of(servers, 503))[0] >= 1
    assert (await of(servers, 502)) == [0, 0]
    await full.open_gates()
    await asyncio.gather(*held)


async def leasing(servers: Sequence[Server]) -> Server:
    """Return the one server that has a run, once there is one."""

    async def leased() -> list[Server]:
        return [one for one in servers if (await one.metrics())[LEASED]]

    (one,) = await until(leased, "a run has begun")
    return one  # type: ignore[no-any-return]


@pytest.mark.deployment
async def test_a_full_server_is_asked_all_the_same_since_it_may_have_room_by_then(
    proxy: Proxy, servers: Sequence[Server]
) -> None:
    """A check comes once a second: all that comes until the next one would be refused."""
    held = [asyncio.create_task(one.run(GATE)) for one in servers for _ in range(2)]
    for server in servers:
        await server.sees("pgexec_waiters", 1)
    before = [await checks(server) for server in servers]

    async def checked() -> bool:
        return all([await checks(one) > n + 1 for one, n in zip(servers, before, strict=True)])

    await until(checked, "the proxy has looked at full servers")
    answer = await proxy.run("print(1)")
    # The servers' own word, not the proxy's `no_server`.
    assert (answer.status, answer.code) == (503, "saturated"), answer.body
    for server in servers:
        await server.open_gates()
    await asyncio.gather(*held)


async def checks(server: Server) -> float:
    """Return how often a server was asked if it is ready."""
    found = await server.metrics()
    return sum(n for name, n in found.items() if name.startswith(CHECKED))


@pytest.mark.deployment
async def test_what_began_and_was_lost_is_a_502_and_runs_once(
    proxy: Proxy, servers: Sequence[Server]
) -> None:
    # With its container:
    run = asyncio.create_task(proxy.run(GATE))
    server = await leasing(servers)
    for container in await server.containers():
        await server.engine.remove(container)
    answer = await run
    assert (answer.status, answer.code) == (502, "container_lost")
    assert "Retry-After" not in answer.headers
    assert sum(await of(servers, 502)) == 1
    assert sum(await of(servers, 200)) == 0

    # With its server:
    run = asyncio.create_task(proxy.run(GATE))
    lost = await leasing(servers)
    (left,) = [server for server in servers if server is not lost]
    before = await left.metrics()
    lost.process.kill()
    answer = await run
    assert (answer.status, answer.code) == (502, "server_lost"), answer.body
    assert "Retry-After" not in answer.headers
    assert (await proxy.run("print(1)")).headers["X-Pgexec-Server"] == left.settings["SERVER_NAME"]
    key = f"{ASKED}200}}"
    assert (await left.metrics())[key] == before.get(key, 0) + 1
    await lost.ended()


@pytest.mark.deployment
@pytest.mark.parametrize("servers", [ROOMY], indirect=True)
async def test_a_server_that_died_costs_no_refusal_though_it_has_the_fewest_runs(
    servers: Sequence[Server], tmp_path: Path
) -> None:
    def seldom_checked(config: str) -> str:
        return config.replace("interval: 1s", "interval: 60s")

    ports = [server.port for server in servers]
    async with proxying("envoy", tmp_path / "envoy", ports, change=seldom_checked) as proxy:
        held = asyncio.create_task(proxy.run(GATE))
        busy = await leasing(servers)
        (dead,) = [server for server in servers if server is not busy]
        dead.process.kill()
        await dead.ended()
        answers = [await proxy.run("print(1)") for _ in range(5)]
        await busy.open_gates()
        assert [answer.status for answer in (*answers, await held)] == [200] * 6


@pytest.mark.deployment
@pytest.mark.parametrize("servers", [ROOMY], indirect=True)
async def test_a_server_that_leaves_loses_no_run_and_none_is_refused(
    proxy: Proxy, servers: Sequence[Server]
) -> None:
    answers = []
    leaves, stays = servers

    async def client() -> None:
        async with proxy.session() as session:
            while leaves.process.poll() is None:
                body = {"language": "python", "code": "print(1)"}
                async with session.post("/run", json=body) as response:
                    answers.append((response.status, (await response.json())["data"]))

    clients = [asyncio.create_task(client()) for _ in range(2)]

    async def served() -> bool:
        return min(await of(servers, 200)) >= 5

    await until(served, "both have served")
    leaves.process.send_signal(signal.SIGTERM)
    await asyncio.gather(*clients)
    assert set(answers) == {(200, "1\n")}
    assert await leaves.ended() == 0
    # With no server left there is a 503, and whoever gets it may come again.
    stays.process.send_signal(signal.SIGTERM)
    assert await stays.ended() == 0
    answer = await proxy.run("print(1)")
    assert (answer.status, answer.code) == (503, "no_server")
    assert answer.headers["Retry-After"] == "1"
