"""What is left of the throughput when ten times as much is asked for; how fast it is refused.

The snippet sleeps, so that the containers are the bottleneck and not this machine's processors,
which the client has to share with the server.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from bench.client import ClientConnection, get, post_run
from bench.errors import AnswerError
from bench.load import rate
from bench.report import Section, median, milliseconds, percentile
from bench.server import serving

if TYPE_CHECKING:
    from bench.bed import Bed
    from bench.server import Server

CONTAINERS = 4
TURN_S = 0.1
TIMES = 10
CLIENTS = 2 * CONTAINERS
"""Enough to keep the containers busy: the best that can be had."""
MAX_WAITING = 4 * CONTAINERS
ROUNDS = 3
SLICE_S = 5.0
PING_EVERY = 20
"""One of so many asks for nothing: what this machine adds to the others by being busy."""
WANTED_OF_BEST = 0.8
WANTED_REFUSAL_MS = 50
_SLEEP = post_run(f"import time; time.sleep({TURN_S})")


@dataclass
class _Crowd:
    """Requests that come at a rate of their own, however long the answers take."""

    server: Server
    per_s: float
    served_s: list[float] = field(default_factory=list)
    refused_s: list[float] = field(default_factory=list)
    pinged_s: list[float] = field(default_factory=list)
    _free: list[ClientConnection] = field(default_factory=list)

    async def come(self, seconds: float) -> float:
        """Return how many runs were served per second."""
        before, began = len(self.served_s), time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for number in range(round(seconds * self.per_s)):
                await asyncio.sleep(began + number / self.per_s - time.perf_counter())
                group.create_task(self._ask() if number % PING_EVERY else self._ping())
        return (len(self.served_s) - before) / (time.perf_counter() - began)

    def close(self) -> None:
        """Close all connections."""
        for connection in self._free:
            connection.close()

    async def _ask(self) -> None:
        status, body, took_s = await self._timed(_SLEEP)
        if status not in (200, 503):
            raise AnswerError(f"HTTP {status}: {body[:300]!r}")
        (self.served_s if status == 200 else self.refused_s).append(took_s)

    async def _ping(self) -> None:
        self.pinged_s.append((await self._timed(get("/ping")))[2])

    async def _timed(self, request: bytes) -> tuple[int, bytes, float]:
        connection = (
            self._free.pop() if self._free else await ClientConnection.open(self.server.port)
        )
        asked = time.perf_counter()
        status, body = await connection.ask(request)
        took_s = time.perf_counter() - asked
        self._free.append(connection)
        return status, body, took_s


async def measure(_bed: Bed) -> Section:
    """Measure at capacity and far beyond it, in turns."""
    section = Section(f"Runs of {TURN_S:g} s on {CONTAINERS} containers, {TIMES} times too many")
    async with serving(
        pool_min_idle=CONTAINERS,
        pool_max_containers=CONTAINERS,
        pool_max_waiting=MAX_WAITING,
        network="none",
    ) as server:
        crowd = _Crowd(server, TIMES * CONTAINERS / TURN_S)
        best: list[float] = []
        beyond: list[float] = []
        try:
            for _ in range(ROUNDS):
                best.append(await _at_capacity(server))
                await server.settled()
                beyond.append(await crowd.come(SLICE_S))
                await server.settled()
        finally:
            crowd.close()
    section.row(f"{CLIENTS} clients, who wait for their answers", per_s=median(best))
    section.row(
        f"{crowd.per_s:g} requests per second, the served ones",
        per_s=median(beyond),
        **milliseconds(crowd.served_s),
    )
    if not crowd.refused_s:
        raise AnswerError("nobody was refused")
    section.row("  the refused ones", **milliseconds(crowd.refused_s))
    section.row("  /ping, meanwhile", **milliseconds(crowd.pinged_s))
    section.note(f"PGEXEC_POOL_MAX_WAITING={MAX_WAITING}")
    section.want("beyond / best", median(beyond) / median(best), at_least=WANTED_OF_BEST)
    section.want_at_most(
        "refused, p99 in ms", percentile(crowd.refused_s, 99) * 1000, WANTED_REFUSAL_MS
    )
    return section


async def _at_capacity(server: Server) -> float:
    connections = [await ClientConnection.open(server.port) for _ in range(CLIENTS)]
    try:
        return await rate([partial(_run, one) for one in connections], SLICE_S)
    finally:
        for connection in connections:
            connection.close()


async def _run(connection: ClientConnection) -> None:
    status, body = await connection.ask(_SLEEP)
    if status != 200:
        raise AnswerError(f"HTTP {status}: {body[:300]!r}")
