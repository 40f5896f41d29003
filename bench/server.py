"""A pgexec server of the bench's own: a process on a free loopback port, ended by its pid."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.client import ClientConnection, get
from bench.errors import BrokenConnectionError, ServerError

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator

ROOT = Path(__file__).resolve().parent.parent
READY_TIMEOUT_S = 180.0  # the first start may have to prepare the image
STOP_TIMEOUT_S = 60.0
_METRIC = re.compile(r"^(\w+(?:\{[^}]*\})?) (\S+)$", re.MULTILINE)
_LABELS = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True, slots=True)
class Usage:
    """What the server's process holds."""

    rss_mib: float
    descriptors: int


@dataclass(frozen=True, slots=True)
class Server:
    """A running server."""

    pid: int
    port: int
    process: Process

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Send one request on a connection of its own."""
        connection = await ClientConnection.open(self.port)
        try:
            return await connection.ask(request)
        finally:
            connection.close()

    async def metrics(self) -> dict[str, float]:
        """Return all series by name and labels, as Prometheus' text spells them."""
        _, text = await self.ask(get("/metrics"))
        return {name: float(value) for name, value in _METRIC.findall(text.decode())}

    async def containers(self) -> dict[str, int]:
        """Return how many containers all pools have, by state."""
        states: Counter[str] = Counter()
        for name, value in (await self.metrics()).items():
            if name.startswith("pgexec_containers{"):
                states[dict(_LABELS.findall(name))["state"]] += int(value)
        return states

    async def settled(self, timeout_s: float = 30.0) -> dict[str, int]:
        """Wait until every container is idle or a session's; return the counts by state."""
        async with asyncio.timeout(timeout_s):
            while True:
                states = await self.containers()
                if states["idle"] and states["idle"] + states["session"] == sum(states.values()):
                    return states
                await asyncio.sleep(0.2)  # an answer costs the server some milliseconds

    def usage(self) -> Usage:
        """Read the process's resident memory and count its descriptors."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        descriptors = len(os.listdir(f"/proc/{self.pid}/fd"))  # noqa: PTH208 - counted only
        return Usage(pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20), descriptors)


@contextlib.asynccontextmanager
async def serving(source: Path = ROOT, /, **settings: object) -> AsyncIterator[Server]:
    """Run a server with these settings on top of the present ones until the block ends.

    Its sources are those in `source`. It logs as it does by default, but to a temporary directory.
    Raises `ServerError`.
    """
    with tempfile.TemporaryDirectory(prefix="pgexec-bench-") as directory:
        environment = {
            **os.environ,
            "PGEXEC_HOST": "127.0.0.1",
            "PGEXEC_PORT": "0",
            "PGEXEC_API_KEYS": "",
            "PGEXEC_LOG_LEVEL": "info",
            "PGEXEC_CANARY_INTERVAL_S": "0",  # its probes would be counted with what is measured
            "PGEXEC_LOG_FILE": f"{directory}/logs.txt",
            **{f"PGEXEC_{name.upper()}": str(value) for name, value in settings.items()},
        }
        errors = Path(directory) / "stderr"
        with errors.open("wb") as stderr:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "pgexec", "serve"),
                cwd=source,
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=stderr,
            )
        try:
            yield await _ready(process, errors)
        finally:
            await _stop(process)


async def _ready(process: Process, errors: Path) -> Server:
    try:
        async with asyncio.timeout(READY_TIMEOUT_S):
            while (port := _port(errors)) is None:
                _check_alive(process, errors)
                await asyncio.sleep(0.05)
            server = Server(process.pid, port, process)
            while True:
                _check_alive(process, errors)
                with contextlib.suppress(BrokenConnectionError, OSError):
                    if (await server.ask(get("/readyz")))[0] == 200:
                        return server
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise ServerError(f"not ready in {READY_TIMEOUT_S:g} s: {_last_words(errors)}") from None


def _check_alive(process: Process, errors: Path) -> None:
    if process.returncode is not None:
        raise ServerError(f"the server ended ({process.returncode}): {_last_words(errors)}")


def _port(errors: Path) -> int | None:
    for line in errors.read_text().splitlines():
        if '"listening"' in line and line.endswith("}"):
            return int(json.loads(line)["port"])
    return None


def _last_words(errors: Path) -> str:
    return "\n".join(errors.read_text().splitlines()[-5:])


async def _stop(process: Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
