"""The proxies of `deploy/`, started as they are but for their addresses."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import ClientSession, ClientTimeout

from tests.conftest import ROOT
from tests.integration.server import WITHIN_S, Answer, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    Change = Callable[[str], str]
    """What else is to be different in the repository's configuration."""

CONFIGS = {
    "envoy": ROOT / "deploy/envoy/envoy.yaml",
    "haproxy": ROOT / "deploy/haproxy/haproxy.cfg",
}
FILE = {"envoy": "-c", "haproxy": "-f"}
LISTENS, ADMIN = "8000", "9901"
SERVERS = ("8081", "8082")
MORE = re.compile(r" +- endpoint: .* 8082}}}\n.*server: two.*\n")
"""The entry of Envoy's second server, of which tests make those of further ones."""


def program(name: str) -> list[str]:
    """Return the command of a proxy, or skip the test where it is not there."""
    if found := shutil.which(name):
        return [found]
    unpacked = ROOT / ".tools" / name / name
    if not unpacked.exists():
        pytest.skip(f"{name} is not there: deploy/setup/proxies.sh gets it")
    return ["env", f"LD_LIBRARY_PATH={unpacked.parent}", str(unpacked)]


def check(name: str) -> list[str]:
    """Return the command that checks the repository's configuration of a proxy."""
    if name == "envoy":
        return [*program(name), "--mode", "validate", "-c", str(CONFIGS[name])]
    return [*program(name), "-c", "-f", str(CONFIGS[name])]


def free_ports(number: int) -> list[str]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [str(one.getsockname()[1]) for one in sockets]


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy, seen by a client."""

    name: str
    port: int

    async def run(self, code: str, **fields: object) -> Answer:
        """Ask for a run on a connection of its own."""
        body = json.dumps({"language": "python", "code": code, **fields}).encode()
        headers = {"Content-Type": "application/json"}
        return await self.request("POST", "/run", data=BytesIO(body), headers=headers)

    async def request(self, method: str, path: str, **options: Any) -> Answer:
        async with self.session() as session, session.request(method, path, **options) as response:
            return Answer(response.status, response.headers, await response.read())

    def session(self) -> ClientSession:
        return ClientSession(f"http://127.0.0.1:{self.port}", timeout=ClientTimeout(WITHIN_S))


@contextlib.asynccontextmanager
async def proxying(
    name: str, directory: Path, ports: Sequence[int], *, change: Change = str
) -> AsyncIterator[Proxy]:
    """Start a proxy before servers on these ports, and wait until it finds all of them ready."""
    listens, admin = free_ports(2)
    process = start(name, directory, ports, listens, admin, change)

    async def all_ready() -> bool:
        assert process.poll() is None, f"the proxy ended; see {directory}/log"
        try:
            return await ready(name, int(admin)) == len(ports)
        except OSError:
            return False

    try:
        await until(all_ready, "the proxy finds all servers ready")
        yield Proxy(name, int(listens))
    finally:
        end(process, 10)


def end(process: subprocess.Popen[bytes], patience_s: float) -> None:
    """Let a process end by SIGTERM, or else by SIGKILL."""
    process.terminate()
    try:
        process.wait(patience_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def start(
    name: str, directory: Path, ports: Sequence[int], listens: str, admin: str, change: Change
) -> subprocess.Popen[bytes]:
    """Start a proxy with the repository's configuration, but for addresses."""
    directory.mkdir()
    config = directory / CONFIGS[name].name
    config.write_text(configured(name, ports, listens, admin, change))
    with (directory / "log").open("wb") as log:
        return subprocess.Popen(
            [*program(name), *options(name, admin), FILE[name], str(config)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=directory,
            env={"PATH": os.environ["PATH"]},
        )


def options(name: str, admin: str) -> list[str]:
    """Return what lets a proxy run beside others of its kind, and stay in the foreground."""
    if name == "envoy":
        return ["--base-id", admin, "--concurrency", "1", "--log-level", "warning"]
    return ["-db"]


def configured(
    name: str, ports: Sequence[int], listens: str, admin: str, change: Change = str
) -> str:
    """Return the repository's configuration of a proxy, but for addresses."""
    text = with_more(change(CONFIGS[name].read_text()), ports[len(SERVERS) :])
    places = {**dict(zip(SERVERS, map(str, ports), strict=False)), LISTENS: listens}
    if name == "envoy":
        places[ADMIN] = admin
    for shipped, own in places.items():
        assert shipped in text, shipped
        text = re.sub(rf"\b{shipped}\b", own, text)
    text = text.replace("0.0.0.0", "127.0.0.1").replace("bind :", "bind 127.0.0.1:")
    return text.replace("global\n", f"global\n    stats socket ipv4@127.0.0.1:{admin}\n")


def with_more(text: str, ports: Sequence[int]) -> str:
    """Return Envoy's configuration with further servers, named `three` and so on in order."""
    if ports:
        second = MORE.findall(text)[0]
        names = ("three", "four", *map(str, range(5, len(ports) + 3)))
        more = "".join(
            second.replace("8082", str(port)).replace("two", name)
            for port, name in zip(ports, names, strict=False)
        )
        text = text.replace(second, second + more)
    return text


async def ready(name: str, admin: int) -> int:
    """Return how many servers the proxy would send a run to."""
    if name == "haproxy":
        with socket.create_connection(("127.0.0.1", admin), 5) as stats:
            stats.sendall(b"show stat\n")
            told = b"".join(iter(lambda: stats.recv(65536), b"")).decode()
        rows = [line.split(",") for line in told.splitlines() if line.startswith("pgexec,")]
        return sum(row[17] == "UP" for row in rows if row[1] in ("one", "two"))
    async with (
        ClientSession(timeout=ClientTimeout(5)) as session,
        session.get(f"http://127.0.0.1:{admin}/clusters?format=json") as answer,
    ):
        clusters = json.loads(await answer.text())["cluster_statuses"]
    # For the first try and for further ones.
    return min(_healthy(one) for one in clusters if one["name"] in ("pgexec", "others"))


def _healthy(cluster: Any) -> int:
    states = [host["health_status"] for host in cluster.get("host_statuses", ())]
    return sum(
        state.get("eds_health_status") == "HEALTHY"
        and not any(value is True for value in state.values())
        for state in states
    )
