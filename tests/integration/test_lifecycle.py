"""How a server begins and ends, and what it does while its engine is away."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from typing import TYPE_CHECKING

import pytest
from aiohttp import ClientError

from pool.engine.ownership import instance_name, labels
from tests.integration.engine_proxy import EngineProxy
from tests.integration.server import GATE, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from tests.integration.server import Answer, EngineClient, Server, StartServer

    Outcomes = Sequence[Answer | Exception]

ONE = {"POOL_MIN_IDLE": 1, "POOL_MAX_CONTAINERS": 1, "LEASE_TIMEOUT_S": 50}
WAITERS = "pgexec_waiters"
LEASED = "pgexec_containers{state=leased}"
GONE_WITHIN_S = 5
"""What DESIGN.md and issue 2 promise for a server that was killed."""


@pytest.fixture
async def proxy(tmp_path: Path, engine_client: EngineClient) -> AsyncIterator[EngineProxy]:
    """Put the engine behind a socket of its own, at first away."""
    proxy = EngineProxy(tmp_path / "engine.sock", engine_client.socket)
    yield proxy
    await proxy.down()


@contextlib.asynccontextmanager
async def load(server: Server, *, clients: int = 6) -> AsyncIterator[Outcomes]:
    """Keep clients busy; yields the list of what each request came to."""
    results: list[Answer | Exception] = []
    stopped = asyncio.Event()

    async def client(number: int) -> None:
        turn = 0
        while not stopped.is_set():
            turn += 1
            mine = f"{number}-{turn}"
            try:
                answer = await server.run(f"import time; time.sleep(0.01); print('{mine}')")
            except (ClientError, OSError) as error:
                results.append(error)
                await asyncio.sleep(0.05)
                continue
            if answer.status == 200:
                assert answer.json["data"] == f"{mine}\n"
            else:
                await asyncio.sleep(0.05)
            results.append(answer)

    tasks = [asyncio.create_task(client(number)) for number in range(clients)]
    try:
        yield results
    finally:
        stopped.set()
        await asyncio.gather(*tasks)


async def served(results: Outcomes, *, more: int) -> None:
    """Wait until so many further requests were answered with 200."""
    target = runs_in(results) + more

    async def enough() -> bool:
        return runs_in(results) >= target

    await until(enough, f"{more} more runs")


def runs_in(results: Outcomes) -> int:
    return sum(not isinstance(one, Exception) and one.status == 200 for one in results)


# --- the end ------------------------------------------------------------------------------


async def test_sigterm_lets_what_runs_finish_and_refuses_the_rest(start: StartServer) -> None:
    server = await start(**ONE)
    running = asyncio.create_task(server.run(GATE + "print('finished')"))
    await server.sees(LEASED, 1)
    waiting = [asyncio.create_task(server.run("print('waited')")) for _ in range(3)]
    await server.sees(WAITERS, 3)
    server.process.send_signal(signal.SIGTERM)
    for refusal in await asyncio.gather(*waiting):
        assert (refusal.status, refusal.code) == (503, "draining")
        assert "Retry-After" in refusal.headers

    async def refuses_connections() -> bool:
        try:
            await server.get("/ping")
        except OSError:
            return True
        return False

    await until(refuses_connections, "new connections are refused")
    assert not running.done()
    await server.open_gates()
    answer = await running
    assert (answer.status, answer.json["data"]) == (200, "finished\n")
    assert await server.ended() == 0
    assert [entry["event"] for entry in server.log][-1] == "stopped"
    assert await server.containers() == {}


async def test_what_runs_longer_than_the_drain_may_take_is_ended(start: StartServer) -> None:
    server = await start(**ONE, DRAIN_TIMEOUT_S=0.5)
    running = asyncio.create_task(server.run("while True: pass"))
    await server.sees(LEASED, 1)
    server.process.send_signal(signal.SIGTERM)
    answer = await running
    assert (answer.status, "Retry-After" in answer.headers) == (502, False)
    assert set(answer.json) == {"data", "error", "code"}
    assert await server.ended() == 0


async def test_sigint_drains_like_sigterm(start: StartServer) -> None:
    server = await start()
    server.process.send_signal(signal.SIGINT)
    assert await server.ended() == 0
    assert await server.containers() == {}


async def test_sigterm_before_the_pool_is_warm_leaves_nothing(start: StartServer) -> None:
    server = await start(ready=False)
    server.process.send_signal(signal.SIGTERM)
    assert await server.ended() == 0
    assert await server.containers() == {}


async def test_a_second_sigterm_ends_the_process_at_once(start: StartServer) -> None:
    server = await start(**ONE)
    running = asyncio.create_task(server.run("while True: pass"))
    await server.sees(LEASED, 1)
    server.process.send_signal(signal.SIGTERM)
    await server.logged("draining")

    async def ends() -> bool:
        server.process.send_signal(signal.SIGTERM)  # one that follows at once is taken for an echo
        return server.process.poll() is not None

    await until(ends, "the process has ended", within_s=10)
    assert await server.ended() == 128 + signal.SIGTERM
    with pytest.raises((ClientError, OSError)):
        await running
    await server.no_container_left(within_s=GONE_WITHIN_S)


async def test_sigkill_of_an_idle_server_leaves_no_container(start: StartServer) -> None:
    server = await start(POOL_MIN_IDLE=3, NETWORK="egress")
    assert len(await server.containers()) >= 3
    server.process.kill()
    await server.ended()
    await server.no_container_left(within_s=GONE_WITHIN_S)


async def test_sigkill_under_load_leaves_no_container(start: StartServer) -> None:
    server = await start()
    endless = [asyncio.create_task(server.run("while True: pass")) for _ in range(2)]
    async with load(server) as results:
        await served(results, more=20)
        server.process.kill()
        await server.ended()
        await server.no_container_left(within_s=GONE_WITHIN_S)
    for outcome in await asyncio.gather(*endless, return_exceptions=True):
        assert isinstance(outcome, (ClientError, OSError))


# --- the beginning ------------------------------------------------------------------------


async def test_what_a_dead_server_left_is_removed_and_what_a_live_one_has_is_not(
    start: StartServer, engine_client: EngineClient, first_image: str
) -> None:
    dead = instance_of_a_process_that_ended()
    expires_at = time.time() + 3600
    elsewhere = f"elsewhere/{instance_name().partition('/')[2]}"
    owners = {"dead": dead, "alive": instance_name(), "expired": elsewhere}
    made = {}
    try:
        for name, instance in owners.items():
            until_s = time.time() - 10 if name == "expired" else expires_at
            made[name] = await engine_client.create(
                first_image, ["python3", "-c", "input()"], labels(instance, until_s)
            )
        server = await start()

        async def swept() -> bool:
            return not await engine_client.containers(dead)

        await until(swept, "what the dead one left is removed")
        await until_gone(engine_client, made["expired"])
        assert made["alive"] in await engine_client.containers(owners["alive"])
        await server.works()
    finally:
        for container in made.values():
            await engine_client.remove(container)


def instance_of_a_process_that_ended() -> str:
    command = "from pool.engine.ownership import instance_name; print(instance_name())"
    done = subprocess.run(
        [sys.executable, "-c", command],
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


async def until_gone(engine: EngineClient, container_id: str) -> None:
    async def gone() -> bool:
        status, _ = await engine.call("GET", f"/containers/{container_id}/json")
        return status == 404

    await until(gone, f"{container_id} is gone")


async def test_two_servers_on_one_engine_touch_only_their_own(start: StartServer) -> None:
    first, second = await asyncio.gather(start(), start())
    mine = set(await second.containers())
    assert not mine & set(await first.containers())
    await asyncio.gather(*(one.works() for one in (first, second) for _ in range(5)))
    await first.at_rest()  # what is created and not started yet only a sweep can find
    first.process.kill()
    await first.ended()
    await first.no_container_left(within_s=GONE_WITHIN_S)
    third = await start()
    await asyncio.gather(second.works(), third.works())
    assert mine <= set(await second.containers())


async def test_a_port_in_use_is_one_sentence_and_exit_status_1(start: StartServer) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        server = await start(PORT=port, ready=False, listening=False)
        assert await server.ended() == 1
    assert server.stderr == (
        f"pgexec: 127.0.0.1:{port} is in use; stop what listens there or set PGEXEC_PORT\n"
    )
    assert await server.containers() == {}


# --- an engine that comes and goes --------------------------------------------------------


async def test_an_engine_that_comes_later_is_waited_for(
    proxy: EngineProxy, start: StartServer
) -> None:
    server = await start(DOCKER_HOST=proxy.path, LEASE_TIMEOUT_S=0.5, ready=False)
    refusal = await server.run("pass")
    assert (refusal.status, refusal.code) == (503, "engine_unavailable")
    assert int(refusal.headers["Retry-After"]) >= 1
    assert str(proxy.path) in refusal.error
    ready = await server.get("/readyz")
    assert (ready.status, ready.code) == (503, "not_ready")
    assert "cannot prepare the image" in ready.error
    assert (await server.get("/healthz")).status == 200
    assert (await server.get("/ping")).status == 200
    await proxy.up()
    await server.ready()
    await server.works()
    await server.at_rest()


async def test_with_dependencies_an_engine_that_is_away_is_a_503_too(
    proxy: EngineProxy, start: StartServer
) -> None:
    server = await start(DOCKER_HOST=proxy.path, LEASE_TIMEOUT_S=0.5, ready=False)
    refusal = await server.run("pass", dependencies=["six"])
    assert (refusal.status, refusal.code) == (503, "engine_unavailable")
    assert "Retry-After" in refusal.headers


async def test_a_server_whose_engine_is_away_ends_in_time(
    proxy: EngineProxy, start: StartServer
) -> None:
    await proxy.up()
    server = await start(DOCKER_HOST=proxy.path)
    await proxy.down()
    server.process.send_signal(signal.SIGTERM)
    status = await asyncio.wait_for(server.ended(), float(server.settings["DRAIN_TIMEOUT_S"]))
    assert status == 0
    await server.no_container_left(within_s=GONE_WITHIN_S)


async def test_connections_to_the_engine_that_break_under_load_lose_nothing(
    proxy: EngineProxy, start: StartServer
) -> None:
    await proxy.up()
    server = await start(DOCKER_HOST=proxy.path, POOL_MIN_IDLE=3)
    async with load(server) as results:
        for _ in range(3):
            await served(results, more=15)
            proxy.cut()
        await served(results, more=15)
    for answer in results:
        assert not isinstance(answer, Exception)
        assert answer.status in (200, 502, 503), answer.body
        if answer.status != 200:
            assert set(answer.json) == {"data", "error", "code"}
        assert ("Retry-After" in answer.headers) == (answer.status == 503)
    await server.ready()
    await server.at_rest()
    await server.works()


async def test_an_engine_that_is_away_for_a_while_under_load_comes_back(
    proxy: EngineProxy, start: StartServer
) -> None:
    await proxy.up()
    server = await start(DOCKER_HOST=proxy.path, LEASE_TIMEOUT_S=0.5)
    async with load(server) as results:
        await served(results, more=10)
        await proxy.down()

        async def notices() -> bool:
            ready = await server.get("/readyz")
            return ready.status == 503 and "containers fail to start" in ready.error

        await until(notices, "/readyz says that the engine is away")
        await proxy.up()
        await served(results, more=10)
    assert {getattr(one, "status", one) for one in results} <= {200, 502, 503}
    await server.ready()
    await server.at_rest()


@pytest.mark.parametrize("step", ["create", "attach", "start"])
async def test_a_container_whose_start_the_engine_did_not_get_to_answer_is_removed(
    proxy: EngineProxy, start: StartServer, step: str
) -> None:
    await proxy.up()
    server = await start(DOCKER_HOST=proxy.path, POOL_MIN_IDLE=1, START_TIMEOUT_S=2)
    proxy.lose_answer_to(f"/{step}".encode())
    await server.run("pass", fresh=True)  # its container is replaced
    await server.sees("pgexec_container_starts_total", 2)
    await server.at_rest()
    assert proxy.lost_answers == 1
    await server.works()


# --- an image that goes -------------------------------------------------------------------


@pytest.fixture
async def private_image(engine_client: EngineClient, first_image: str) -> AsyncIterator[str]:
    """Have the first image under a name of its own, so that nobody else's is at stake."""
    name, tag = "pgexec-test-private", uuid.uuid4().hex[:8]
    await engine_client.call("POST", f"/images/{first_image}/tag?repo={name}&tag={tag}")
    yield f"{name}:{tag}"
    await engine_client.call("DELETE", f"/images/{name}:{tag}")
    await remove_prepared(engine_client, f"{name}:{tag}", force=True)


async def remove_prepared(engine: EngineClient, base: str, *, force: bool) -> list[str]:
    """Remove what was prepared from a base; return the names that it had."""
    wanted = json.dumps({"label": [f"pgexec.base={base}"]})
    _, images = await engine.call("GET", f"/images/json?filters={wanted}")
    names: list[str] = [name for image in images for name in image["RepoTags"] or ()]
    for name in names:
        await engine.call("DELETE", f"/images/{name}?force={int(force)}")
    return names


async def test_an_image_that_is_removed_while_the_server_runs_is_prepared_again(
    start: StartServer, engine_client: EngineClient, private_image: str
) -> None:
    root_dir = f"/srv/{private_image.rpartition(':')[2]}"  # a key of its own
    server = await start(IMAGE=private_image, ROOT_DIR=root_dir, LEASE_TIMEOUT_S=50)
    assert await remove_prepared(engine_client, private_image, force=True)
    outputs = [await server.output("print(__file__)", fresh=True) for _ in range(4)]
    assert set(outputs) == {f"{root_dir}/Main.py\n"}
    await server.at_rest()
    assert await remove_prepared(engine_client, private_image, force=False)
    prepared = [one for one in server.log if one["event"].startswith("prepared ")]
    assert len(prepared) == 2
