"""`pgexec advise` on a real server's metrics, and on a real Prometheus that scrapes it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from aiohttp import ClientError, ClientSession

from tests.integration.server import until
from tests.prometheus import tool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.integration.server import Server, StartServer

RUNS = 120
LIFE_S = "240"
CONFIG = """\
global: {{scrape_interval: 500ms, scrape_timeout: 400ms}}
scrape_configs:
  - job_name: pgexec
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""


class Prometheus:
    """A Prometheus of the test's own."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def value(self, query: str) -> float:
        """Return the sum of a query's series; 0 where there are none, or it still starts."""
        with contextlib.suppress(ClientError, KeyError):
            async with (
                ClientSession() as session,
                session.get(f"{self.url}/api/v1/query", params={"query": query}) as answer,
            ):
                result = (await answer.json())["data"]["result"]
                return sum(float(one["value"][1]) for one in result)
        return 0.0


@contextlib.asynccontextmanager
async def prometheus(directory: Path, port: int) -> AsyncIterator[Prometheus]:
    """Scrape a server; the process ends with the test, and by itself in any case."""
    program = tool("prometheus")
    (directory / "prometheus.yml").write_text(CONFIG.format(port=port))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    arguments = [
        f"--config.file={directory}/prometheus.yml",
        f"--storage.tsdb.path={directory}/tsdb",
        f"--web.listen-address={address}",
    ]
    with (directory / "prometheus.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            "timeout", LIFE_S, program, *arguments, stderr=log
        )
    try:
        yield Prometheus(f"http://{address}")
    finally:
        process.terminate()
        await process.wait()


def command(*arguments: str) -> Any:
    ran = subprocess.run(
        [sys.executable, "-m", "pgexec", "advise", "--json", *arguments],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


async def advice(*arguments: str) -> Any:
    return await asyncio.to_thread(command, *arguments)


async def traffic(server: Server) -> None:
    for _ in range(RUNS):
        assert (await server.run("pass")).status == 200


async def test_a_servers_own_metrics_and_its_prometheus_give_the_same_advice(
    start: StartServer, tmp_path: Path
) -> None:
    server = await start(MAX_USES=1000, MEMORY_LIMIT="2GiB")
    async with prometheus(tmp_path, server.port) as watching:

        async def scraped() -> bool:
            return await watching.value("pgexec_containers") > 0

        await until(scraped, "a scrape before the traffic")
        await traffic(server)

        async def seen() -> bool:
            return await watching.value("pgexec_leases_total") >= RUNS

        await until(seen, "a scrape after the traffic")
        direct = await advice(f"http://127.0.0.1:{server.port}/metrics")
        collected = await advice(watching.url, "--window", "1h")
    # How many containers are needed at once depends on how fast they are reset; this does not.
    for found in (direct, collected):
        assert found["enough"]
        changes = {one["setting"]: one["advised"] for one in found["changes"]}
        assert changes["PGEXEC_MEMORY_LIMIT"] == "64MiB"
        assert "PGEXEC_MAX_USES" not in changes
    assert direct["leases"] == RUNS
    log = await advice(str(server.directory / "logs.txt"))
    assert log["leases"] == RUNS


async def test_the_gauges_of_demand_follow_the_traffic(start: StartServer) -> None:
    server = await start()
    await traffic(server)

    async def counted() -> bool:
        return (await server.metrics())["pgexec_arrivals_per_second"] > 0

    await until(counted, "the end of a second in which something arrived")
    now = await server.metrics()
    assert now["pgexec_demand_containers_count"] > 0
    assert now["pgexec_target_idle_containers"] >= 2
    assert now["pgexec_setting{name=pool_min_idle}"] == 2
    assert now["pgexec_run_peak_memory_bytes_count"] == RUNS
