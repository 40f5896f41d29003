"""Many idle containers and kept connections, beside a server that has few of both.

Both servers run at once on one engine, and are asked in turns. The many connections are used one
after the other, so that none of them is better known to the server than the others.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench.client import ClientConnection, get, post_run
from bench.cpu import spent
from bench.errors import AnswerError
from bench.report import Section, median, milliseconds
from bench.server import serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.bed import Bed
    from bench.server import Server

FEW, MANY = 4, 500
CONNECTIONS = 5000
ROUNDS = 15
RUNS = 40
IDLE_S = 20.0
START_TIMEOUT_S = 400.0
WANTED_TIMES = 1.5
WANTED_MIB = 150
WANTED_SHARE = 0.01
PRINT = post_run("print(1)")


@dataclass(slots=True)
class _Side:
    server: Server
    connections: list[ClientConnection]
    took_s: list[float] = field(default_factory=list)
    next_ones: Iterator[ClientConnection] = field(init=False)

    def __post_init__(self) -> None:
        self.next_ones = _again_and_again(self.connections)

    async def run(self) -> None:
        connection = next(self.next_ones)
        asked = time.perf_counter()
        status, body = await connection.ask(PRINT)
        self.took_s.append(time.perf_counter() - asked)
        if status != 200:
            raise AnswerError(f"HTTP {status}: {body[:300]!r}")


async def measure(_bed: Bed) -> Section:
    """Measure both."""
    section = Section(
        f"{MANY} idle containers and {CONNECTIONS} kept connections, beside {FEW} and 1"
    )
    common = {"network": "none", "keepalive_timeout_s": 3600}
    few = {"pool_min_idle": FEW, "pool_max_containers": FEW}
    many = {"pool_min_idle": MANY, "pool_max_containers": MANY, "max_connections": CONNECTIONS + 10}
    async with serving(**common, **few) as small:
        began = time.perf_counter()
        async with serving(**common, **many) as large:
            await large.settled(START_TIMEOUT_S)
            started_s = time.perf_counter() - began
            sides = [
                _Side(small, await _connected(small, 1)),
                _Side(large, await _connected(large, CONNECTIONS)),
            ]
            try:
                await _measure(sides)
                idle = await _idle_share(large)
                mib = large.usage().rss_mib
            finally:
                for side in sides:
                    for connection in side.connections:
                        connection.close()
    few_side, many_side = sides
    section.row(f"{FEW} containers, 1 connection", **milliseconds(few_side.took_s))
    section.row(f"{MANY} containers, {CONNECTIONS}", **milliseconds(many_side.took_s))
    section.note(f"{MANY} containers were ready after {started_s:.1f} s")
    section.note(f"idle means {IDLE_S:g} s without a request")
    times = median(many_side.took_s) / median(few_side.took_s)
    section.want_at_most("p50 with many / with few", times, WANTED_TIMES)
    section.want_at_most("the server's MiB with many", mib, WANTED_MIB)
    section.want_at_most("share of a processor that it takes while idle", idle, WANTED_SHARE)
    return section


async def _measure(sides: list[_Side]) -> None:
    for number in range(ROUNDS):
        for side in sides if number % 2 else sides[::-1]:
            for _ in range(RUNS):
                await side.run()


async def _idle_share(server: Server) -> float:
    before = spent((), server.pid).server_s
    await asyncio.sleep(IDLE_S)
    return (spent((), server.pid).server_s - before) / IDLE_S


async def _connected(server: Server, count: int) -> list[ClientConnection]:
    """Open connections that have had an answer each."""
    connections = []
    for _ in range(count):
        connections.append(connection := await ClientConnection.open(server.port))
        status, body = await connection.ask(get("/ping"))
        if status != 200:
            raise AnswerError(f"HTTP {status}: {body[:300]!r}")
    return connections


def _again_and_again(connections: list[ClientConnection]) -> Iterator[ClientConnection]:
    while True:
        yield from connections
