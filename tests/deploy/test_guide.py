"""The guide's commands, as they stand on its page, do what it says of them."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from typing import TYPE_CHECKING, Any
from urllib.request import Request, urlopen

import pytest

from tests.conftest import available_images
from tests.deploy.guide import block
from tests.deploy.machine import Machine, Unit
from tests.deploy.proxies import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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
