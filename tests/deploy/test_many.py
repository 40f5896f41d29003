"""Three real servers in one real Prometheus: rules, dashboard and advice work for all of them."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.server import GATE, until
from tests.integration.test_monitoring import Prometheus
from tests.prometheus import panel_queries

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.server import StartServer

NAMES = ("one", "two", "three")
RUNS = 40
"""Of one server too few for advice, of three together enough."""
SETTINGS = {"POOL_MIN_IDLE": 1, "POOL_MAX_CONTAINERS": 1}


async def advice(*sources: str) -> Any:
    command = [sys.executable, "-m", "pgexec", "advise", "--json", "--window", "1h", *sources]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err
    return json.loads(out)


@pytest.mark.deployment
async def test_rules_dashboard_and_advice_are_of_all_servers(
    start: StartServer, tmp_path: Path
) -> None:
    servers = [await start(SERVER_NAME=name, **SETTINGS) for name in NAMES]
    prometheus = Prometheus(tmp_path / "prometheus", *(server.port for server in servers))
    prometheus.start()
    try:
        await prometheus.scrapes()
        for server in servers:
            for _ in range(RUNS):
                await server.works()

        async def recorded() -> bool:
            return (await prometheus.value("job:pgexec_runs:rate5m") or 0.0) > 0

        await until(recorded, "the runs of all servers together are recorded")
        found = (await prometheus.ask("query", query="pgexec_build_info"))["result"]
        assert {one["metric"]["server"] for one in found} == set(NAMES)
        query = "count(instance_profile:pgexec_containers_busy:ratio)"
        assert await prometheus.value(query) == len(NAMES)
        held = asyncio.create_task(servers[0].run(GATE))

        async def one_of_all_is_busy() -> bool:
            busy = await prometheus.value(
                'job_profile:pgexec_containers_busy:ratio{profile="python"}'
            )
            return busy == pytest.approx(1 / len(NAMES))

        await until(one_of_all_is_busy, "the run that goes on is counted among all containers")
        await servers[0].open_gates()
        await held
        rules = [
            rule for group in (await prometheus.ask("rules"))["groups"] for rule in group["rules"]
        ]
        assert [rule for rule in rules if rule["health"] not in ("ok", "unknown")] == []

        by_server = [query for query in panel_queries() if "by (instance) (pgexec_pool" in query]
        assert len(by_server) == 2
        for query in by_server:
            series = (await prometheus.ask("query", query=query))["result"]
            assert {one["metric"]["instance"] for one in series} == set(prometheus.targets)

        urls = [f"http://{target}/metrics" for target in prometheus.targets]
        alone, together = await advice(urls[1]), await advice(*urls)
        assert (alone["leases"], alone["enough"]) == (RUNS, False)
        assert (together["leases"], together["enough"]) == (len(NAMES) * RUNS + 1, True)

        async def scraped() -> bool:
            found = await advice(f"http://127.0.0.1:{prometheus.port}")
            return int(found["leases"]) > 2 * RUNS

        await until(scraped, "the leases of all servers in Prometheus")
    finally:
        await asyncio.to_thread(prometheus.stop)
