"""The guide's commands, as they stand on its page, do what it says of them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import Request, urlopen

import pytest

from tests.conftest import ROOT, available_images
from tests.deploy.guide import GUIDE, block, blocks, going_on, stand_in, told
from tests.deploy.machine import Machine, Unit
from tests.deploy.proxies import CONFIGS, Proxy, configured, free_ports, options, program, ready
from tests.integration.server import until
from tests.integration.test_monitoring import Prometheus
from tests.prometheus import tool

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.server import StartServer

WITHIN_S = 120


def ask(port: str, path: str, **fields: object) -> Any:
    body = json.dumps(fields).encode() if fields else None
    headers = {"Content-Type": "application/json"}
    request = Request(f"http://127.0.0.1:{port}{path}", body, headers)
    with urlopen(request, timeout=WITHIN_S) as answer:
        return json.load(answer)


def until_ready(port: str) -> None:
    deadline = time.monotonic() + WITHIN_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            ask(port, "/readyz")
            return
        time.sleep(0.1)
    raise AssertionError(f"not ready within {WITHIN_S} s: {port}")


def test_every_block_of_commands_in_the_guide_is_run_by_a_test() -> None:
    headings = [one.heading for one in blocks()]
    there = {(name, headings[:at].count(name)) for at, name in enumerate(headings)}
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    run = re.findall(r'\bblock\("([^"]+)"(?:, (\d+))?\)', tests)
    assert {(name, int(number or 0)) for name, number in run} == there
    # Of no other kind, which `blocks` would not see.
    fences = re.findall(r"^ *(?:```|~~~).*", GUIDE.read_text(encoding="utf-8"), re.MULTILINE)
    assert fences == ["```sh", "```"] * len(headings)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    if os.geteuid() != 0:
        pytest.skip("only root can have a root of its own")
    needed = ("nsenter", "setpriv", "systemctl", "systemd-sysusers", "unshare")
    if missing := [name for name in needed if not shutil.which(name)]:
        pytest.skip(f"not installed: {', '.join(missing)}")
    with Machine(tmp_path) as machine:
        yield machine


@pytest.mark.deployment
def test_units_of_a_machine_serve_after_the_commands_of_the_guide(machine: Machine) -> None:
    machine.sh(block("One machine: systemd").text)
    program = "cd /etc/pgexec && /opt/pgexec/bin/pgexec"
    listed = json.loads(machine.sh(f"{program} settings --json"))
    assert "/etc/pgexec/settings.local.env" in {one["source"] for one in listed}

    machine.sh(block("One machine: systemd", 1).text)
    names = ("pgexec", "pgexec@one", "pgexec@two")
    ports = free_ports(len(names))
    units = [Unit(machine, name) for name in names]
    for name, port in zip(names, ports, strict=True):
        directory = f"/etc/pgexec/{name.partition('@')[2]}"
        lines = (
            *(f"PGEXEC_PORT={port}", f"PGEXEC_IMAGE={available_images()[0]}"),
            *("PGEXEC_POOL_MIN_IDLE=1", "PGEXEC_POOL_MAX_CONTAINERS=1", "PGEXEC_NETWORK=none"),
            *("PGEXEC_DRAIN_DELAY_S=0.2", "PGEXEC_DEPENDENCY_VOLUME=pgexec-test-deploy"),
        )
        machine.sh("\n".join(f"echo {one} >>{directory}/settings.local.env" for one in lines))
    with contextlib.ExitStack() as stopping:
        for unit in units:
            unit.start()
            stopping.callback(unit.stop)
        for port in ports:
            until_ready(port)
            assert ask(port, "/run", language="python", code="print(6 * 7)")["data"] == "42\n"
        assert [unit.stop() for unit in units] == [0, 0, 0]


@pytest.mark.deployment
@pytest.mark.parametrize("name", sorted(CONFIGS))
async def test_a_proxy_of_the_guide_sends_runs_to_two_servers(
    name: str, start: StartServer, tmp_path: Path
) -> None:
    lines = {line.split()[0]: line for line in block("Several servers: a proxy").lines}
    assert set(lines) == set(CONFIGS)
    few = {"POOL_MIN_IDLE": 1, "POOL_MAX_CONTAINERS": 1}
    ports = [(await start(SERVER_NAME=one, **few)).port for one in ("one", "two")]
    listens, admin = free_ports(2)
    config = tmp_path / CONFIGS[name].relative_to(ROOT)
    config.parent.mkdir(parents=True)
    config.write_text(configured(name, ports, listens, admin))
    programs = tmp_path / "bin"
    stand_in(programs, name, [*program(name), *options(name, admin)])
    with going_on(lines[name], tmp_path, programs):

        async def both() -> bool:
            with contextlib.suppress(OSError):
                return await ready(name, int(admin)) == len(ports)
            return False

        await until(both, "it finds both servers ready")
        served: set[str] = set()

        async def by_both() -> bool:
            answer = await Proxy(name, int(listens)).run("print(1)")
            assert answer.status == 200, answer.body
            served.add(answer.headers["X-Pgexec-Server"])
            return served == {"one", "two"}

        await until(by_both, "each has served a run: where both idle, chance decides")


@pytest.mark.deployment
async def test_prometheus_and_the_advice_of_the_guide_are_of_a_fleet(
    start: StartServer, tmp_path: Path
) -> None:
    few = {"POOL_MIN_IDLE": 1, "POOL_MAX_CONTAINERS": 1}
    servers = [await start(SERVER_NAME=name, **few) for name in ("one", "two", "three")]
    await servers[0].works()
    prometheus = Prometheus(tmp_path / "deploy/prometheus", *(server.port for server in servers))
    prometheus.configure()
    programs = tmp_path / "bin"
    address = f"--web.listen-address=127.0.0.1:{prometheus.port}"
    stand_in(programs, "prometheus", [tool("prometheus"), address])
    stand_in(programs, "pgexec", [sys.executable, "-m", "pgexec"])
    serve, advise = block("A fleet: one Prometheus").lines
    from_prometheus, from_servers = re.findall(r"pgexec advise [^#]*", advise)
    from_prometheus = from_prometheus.replace("9090", str(prometheus.port))
    targets = f"{{{','.join(prometheus.targets)}}}"
    from_servers = from_servers.replace("{one,two,three}:8080", targets)
    with going_on(serve, tmp_path, programs) as prometheus.process:
        await prometheus.scrapes()
        for line in (from_prometheus, from_servers):
            assert "leases" in await asyncio.to_thread(told, line, tmp_path, programs)
