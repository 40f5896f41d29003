"""What operators see: a real Prometheus scrapes a real server."""

from __future__ import annotations

import asyncio
import re
import shutil
import socket
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import ClientSession, ClientTimeout, ContentTypeError

from tests.conftest import ROOT
from tests.integration.engine_proxy import EngineProxy
from tests.integration.server import WITHIN_S, until
from tests.prometheus import (
    RULES,
    Described,
    described,
    expressions,
    names_in,
    panel_queries,
    promtool,
    sample_names,
    tool,
    variable_queries,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from tests.integration.server import EngineClient, Server, StartServer

_ROW = re.compile(r"^\| `(pgexec_\w+)` \| (\w+) \| (.*?) ?\| .+ \|$", re.MULTILINE)
_ALERT = re.compile(r"alert: (\w+)")
_ALERT_ROW = re.compile(r"^\| `(Pgexec\w+)` \|", re.MULTILINE)


class Prometheus:
    """A Prometheus of the test's own, with the repository's configuration but for the addresses."""

    def __init__(self, directory: Path, *targets: int) -> None:
        self.directory = directory
        self.targets = [f"127.0.0.1:{port}" for port in targets]
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.port = int(listener.getsockname()[1])
        self.process: subprocess.Popen[bytes] | None = None

    def configure(self) -> Path:
        """Write the configuration, and return its path."""
        shutil.copytree(RULES, self.directory)
        config = self.directory / "prometheus.yml"
        text = config.read_text().replace("localhost:8080", '", "'.join(self.targets))
        config.write_text(text.replace("_interval: 15s", "_interval: 1s"))
        return config

    def start(self) -> None:
        program = tool("prometheus")
        config = self.configure()
        with (self.directory / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [
                    program,
                    f"--config.file={config}",
                    f"--storage.tsdb.path={self.directory / 'data'}",
                    f"--web.listen-address=127.0.0.1:{self.port}",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def stop(self) -> None:
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(WITHIN_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    async def ask(self, path: str, **parameters: str) -> Any:
        """Return the data that the API answers with; a refusal fails the test."""
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}"
        async with (
            ClientSession(timeout=ClientTimeout(WITHIN_S)) as session,
            session.get(url, params=parameters) as response,
        ):
            answer = await response.json()
        assert answer["status"] == "success", (parameters, answer)
        return answer["data"]

    async def value(self, query: str) -> float | None:
        """Return the one value of a query, `None` where it has none."""
        result = (await self.ask("query", query=query))["result"]
        assert len(result) <= 1, result
        return float(result[0]["value"][1]) if result else None

    async def scrapes(self) -> None:
        """Wait until it has scraped every server."""

        async def is_up() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, (self.directory / "log").read_text()
            try:
                return await self.value('sum(up{job="pgexec"})') == len(self.targets)
            except (OSError, ContentTypeError):  # it does not listen, or only says to wait
                return False

        await until(is_up, "the target is up")


@pytest.fixture
async def prometheus(server: Server, tmp_path: Path) -> AsyncIterator[Prometheus]:
    """Let a Prometheus scrape the shared server for the time of a test."""
    one = Prometheus(tmp_path / "prometheus", server.port)
    one.start()
    try:
        await one.scrapes()
        yield one
    finally:
        await asyncio.to_thread(one.stop)


async def scrape(server: Server) -> str:
    """Run something, so that every series is there, and return what Prometheus would see."""
    await server.works()
    await server.at_rest()
    return (await server.get("/metrics")).body.decode()


async def test_prometheus_counts_the_runs_that_were_served(
    server: Server, prometheus: Prometheus
) -> None:
    query = 'pgexec_runs_total{profile="python", status="ok"}'
    before = (await server.metrics())["pgexec_runs_total{status=ok}"]
    for _ in range(3):
        await server.works()

    async def counted() -> bool:
        return await prometheus.value(query) == before + 3

    await until(counted, "three more runs")
    assert await prometheus.value('sum(pgexec_containers{state!="idle"}) >= 0') is not None
    (target,) = (await prometheus.ask("targets"))["activeTargets"]
    assert (target["health"], target["lastError"]) == ("up", "")


async def test_every_rule_is_evaluated_without_an_error_and_nothing_alerts(
    prometheus: Prometheus,
) -> None:
    async def evaluated() -> Any:
        groups = (await prometheus.ask("rules"))["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        return rules if all(rule["health"] != "unknown" for rule in rules) else None

    rules = await until(evaluated, "every rule was evaluated")
    assert len(rules) >= 20
    assert [rule for rule in rules if rule["health"] != "ok"] == []
    alerts = {alert["labels"]["alertname"] for alert in (await prometheus.ask("alerts"))["alerts"]}
    assert alerts <= {"PgexecLeak"}  # of other tests' servers that were killed


async def test_every_query_of_the_dashboard_has_something_to_show(
    server: Server, prometheus: Prometheus
) -> None:
    queries = panel_queries()
    assert len(queries) >= 50
    pending = set(queries)

    async def shown() -> bool:
        await server.works()
        for query in tuple(pending):
            if (await prometheus.ask("query", query=query))["result"]:
                pending.discard(query)
        # The canary of this server never looks, so that nobody can say how long ago it did.
        return all("pgexec_canary_last_run" in query for query in pending)

    try:
        await until(shown, "every panel has something to show", within_s=30)
    except AssertionError:
        raise AssertionError(pending) from None


async def test_the_figures_of_the_dashboard_are_those_of_what_was_done(
    server: Server, prometheus: Prometheus
) -> None:
    """A quantile lies within the bucket of what happened, a ratio is one."""

    async def says(part: str, holds: Callable[[float], bool]) -> None:
        query = next(one for one in panel_queries() if part in one)

        async def said() -> bool:
            await server.output("import time; time.sleep(0.3)")
            value = await prometheus.value(query)
            return value is not None and holds(value)

        await until(said, query)

    await says("min(pgexec_pool_ready", lambda value: value == 1)
    await says('path="/run", status=~"5.."', lambda value: value == 0)
    await says("(0.5, sum by (le) (rate(pgexec_run_duration", lambda value: 0.25 < value <= 0.5)
    await says("(0.5, sum by (le) (rate(pgexec_request_duration", lambda v: 0.25 < v <= 0.5)
    await says("sum(pgexec_containers{", lambda value: 0 < value <= 1)
    await says("(0.5, sum by (le) (rate(pgexec_run_peak", lambda value: 8 << 20 < value < 64 << 20)


async def test_a_real_scrape_is_as_prometheus_wants_it(server: Server) -> None:
    assert promtool("check", "metrics", text=await scrape(server)) == ""


async def test_dashboard_and_rules_ask_only_for_what_a_scrape_has(server: Server) -> None:
    has = sample_names(await scrape(server))
    queries = [*panel_queries(), *expressions(RULES / "rules.yml")]
    queries += expressions(RULES / "alerts.yml")
    asked = {name for query in queries for name in names_in(query)}
    families = described((await server.get("/metrics")).body.decode())
    offered = {name for query in variable_queries() for name in names_in(query)}
    assert len(asked) >= 25
    assert asked - has == set()
    assert offered <= families.keys()


async def test_the_documented_metrics_are_those_of_a_scrape(server: Server) -> None:
    rows = _ROW.findall((ROOT / "docs/monitoring.md").read_text())
    documented = {
        name: Described(kind, frozenset(re.findall(r"`(\w+)`", labels)))
        for name, kind, labels in rows
    }
    assert documented == described(await scrape(server))


def test_the_documented_alerts_are_those_that_there_are() -> None:
    documented = _ALERT_ROW.findall((ROOT / "docs/monitoring.md").read_text())
    assert sorted(documented) == sorted(_ALERT.findall((RULES / "alerts.yml").read_text()))


async def test_engine_calls_bytes_and_the_loop_are_counted(start: StartServer) -> None:
    server = await start(POOL_MIN_IDLE=1, POOL_MAX_CONTAINERS=1)
    await server.output("print('x' * 5000)")
    await server.at_rest()

    async def sampled() -> Any:
        metrics = await server.metrics()
        return metrics if metrics["pgexec_event_loop_lag_seconds_count"] else None

    metrics = await until(sampled, "the loop's lag")
    for operation in ("create", "attach", "start"):
        calls = f"pgexec_engine_call_duration_seconds_count{{operation={operation}}}"
        assert metrics[calls] >= 1, operation
    assert not [
        name
        for name, value in metrics.items()
        if name.startswith("pgexec_engine_errors_total{") and value
    ]
    assert metrics["pgexec_stream_received_bytes_total"] > 5000
    assert 10 < metrics["pgexec_stream_sent_bytes_total"] < 5000
    assert metrics["pgexec_pool_ready"] == 1
    assert metrics["pgexec_pool_max_containers"] == 1


async def test_an_engine_that_goes_away_and_comes_back_shows(
    start: StartServer, engine_client: EngineClient, tmp_path: Path
) -> None:
    proxy = EngineProxy(tmp_path / "engine.sock", engine_client.socket)
    await proxy.up()
    try:
        server = await start(DOCKER_HOST=proxy.path, POOL_MIN_IDLE=1, POOL_MAX_CONTAINERS=1)
        await proxy.down()  # which cuts the container's stream, so that another is started

        async def sees(ready: float, backing_off: float) -> Any:
            now = await server.metrics()
            state = (now["pgexec_pool_ready"], now["pgexec_pool_backing_off"])
            return now if state == (ready, backing_off) else None

        await until(lambda: sees(0, 1), "the engine is away")

        async def counted() -> bool:
            metrics = await server.metrics()
            errors = "pgexec_engine_errors_total{operation=%s,reason=unavailable}"
            return all(metrics[errors % one] for one in ("list", "remove"))

        await until(counted, "failed calls")
        lost = "pgexec_container_start_failures_total{reason=lost}"
        assert (await server.metrics())[lost] == 1
        await proxy.up()
        await until(lambda: sees(1, 0), "the engine is back")
        await server.works()
        await server.stop()
    finally:
        await proxy.down()
