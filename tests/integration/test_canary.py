"""The isolation canary of a real server, with walls that hold and with walls that do not."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry

from pgexec.backend.laboratory import CANARY, Laboratory
from pgexec.backend.spec import container_labels, prepare_spec
from pgexec.doctor.canary import Canary
from pgexec.settings import Settings
from pgexec.settings.profiles import DEFAULT
from pgexec.telemetry.canary_metrics import CanaryMetrics
from pool.engine.spec import LABEL_INSTANCE
from tests.integration.engine_proxy import EngineProxy
from tests.integration.server import until

if TYPE_CHECKING:
    from pathlib import Path

    from pool.engine.docker import DockerEngine
    from tests.integration.server import EngineClient, Server, StartServer

CHECKS = ("read_only_root", "network_guard", "metadata", "memory_limit", "pids_limit")
TEST = "canary-test"
LAST_RUN = "pgexec_canary_last_run_timestamp_seconds"


async def holding(server: Server) -> dict[str, float]:
    """Wait until every check was made, and return what they found."""

    async def all_made() -> Any:
        metrics = await server.metrics()
        return metrics if metrics[LAST_RUN] else None

    metrics = await until(all_made, "a round of the canary", within_s=120)
    return {name: metrics[f"pgexec_canary_ok{{check={name}}}"] for name in CHECKS}


class Weakener(EngineProxy):
    """Passes requests on to the engine with a limit taken out, as an engine without it would."""

    def __init__(self, path: Path, engine_socket: str, limit: bytes, none: bytes) -> None:
        super().__init__(path, engine_socket)
        self._limit, self._none = limit, none.ljust(len(limit))

    def pass_on(self, data: bytes) -> bytes:
        return data.replace(self._limit, self._none)


async def test_a_server_whose_walls_hold_says_so_with_a_container_of_its_own(
    start: StartServer, engine_client: EngineClient
) -> None:
    server = await start(POOL_MIN_IDLE=1, POOL_MAX_CONTAINERS=1, CANARY_INTERVAL_S=2)

    async def spare() -> Any:
        there = await server.containers()
        pool = await engine_client.containers(server.instance, role_left_out=CANARY)
        return set(there) - set(pool)

    (one, *more) = await until(spare, "a spare container")
    assert not more
    await server.works()  # although the pool has room for one
    assert await holding(server) == dict.fromkeys(CHECKS, 1)
    metrics = await server.metrics()
    assert sum(metrics[f"pgexec_canary_failures_total{{check={name}}}"] for name in CHECKS) == 0
    status, _ = await engine_client.call("GET", f"/containers/{one}/json")
    assert status == 404
    # It may be at it again: the end of the server leaves nothing either way.
    await server.stop()


async def test_a_pids_limit_that_the_engine_does_not_enforce_is_reported(
    start: StartServer, engine_client: EngineClient, tmp_path: Path
) -> None:
    socket = tmp_path / "engine.sock"
    proxy = Weakener(socket, engine_client.socket, b'"PidsLimit": 65', b'"PidsLimit": 0')
    await proxy.up()
    try:
        server = await start(
            DOCKER_HOST=socket, POOL_MIN_IDLE=1, POOL_MAX_CONTAINERS=1, CANARY_INTERVAL_S=2
        )
        assert await holding(server) == dict.fromkeys(CHECKS, 1) | {"pids_limit": 0}
        await server.logged_start("the isolation of python does not hold (pids limit): 1")
        (told, *_) = (entry for entry in server.log if entry["level"] == "error")
        assert "remedy: " in told["event"]
        await server.stop()
    finally:
        await proxy.down()


async def test_a_network_that_nothing_guards_is_reported(
    engine: DockerEngine, first_image: str
) -> None:
    settings = Settings.of(image=first_image)
    spec = replace(await prepare_spec(engine, settings), guard=None)

    async def weak(language: str) -> Laboratory:
        return Laboratory(engine, settings, spec, lambda: container_labels(TEST, settings))

    registry = CollectorRegistry()
    canary = Canary(weak, CanaryMetrics(registry), 900, (DEFAULT,), of_more_containers=())
    await canary.probe()
    found = {
        name: registry.get_sample_value("pgexec_canary_ok", {"profile": DEFAULT, "check": name})
        for name in CHECKS[:3]
    }
    assert found == {"read_only_root": 1, "network_guard": 0, "metadata": 0}
    assert await engine.owned(f"{LABEL_INSTANCE}={TEST}") == []


async def test_the_end_of_a_server_leaves_nothing_of_a_probe(start: StartServer) -> None:
    server = await start(POOL_MIN_IDLE=1, POOL_MAX_CONTAINERS=1, CANARY_INTERVAL_S=1)

    async def probing() -> Any:
        pool = await server.engine.containers(server.instance, role_left_out=CANARY)
        return set(await server.containers()) - set(pool)

    await until(probing, "a round of the canary")
    await server.stop()
