"""Three servers on three engines behind Envoy, and what becomes of runs when machines fail.

`python -m bench machines` measures and draws docs/scaling.svg and the tables of docs/scaling.md;
all that it finds goes to docs/scaling.json, from which --redraw makes them again. The engines are
its own, in namespaces (tests/fleet.py), the servers and Envoy are processes on loopback addresses.
Each run says that it runs to a counter, so that a run that was lost, or ran twice, is seen.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import signal
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import pytest
from aiohttp import ClientSession, ClientTimeout

from bench import stubs
from bench.client import ClientConnection
from bench.errors import BenchError
from bench.facts import load_average, machine
from bench.load import ask_to_print
from bench.report import Section, percentile
from bench.scaling import figures
from bench.scaling_draw import embed, plot
from bench.server import ROOT
from pgexec.settings import load_settings
from pool.engine.address import find_engine
from tests.conftest import available_images
from tests.counted import CountedLoad, RunCounter
from tests.deploy.proxies import free_ports, program, proxying
from tests.fleet import HUB, Fleet
from tests.integration.server import Server
from tests.prepared import prepared
from tests.private_engine import unusable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from tests.counted import Told
    from tests.fleet import Node

    Value = float | int | str
    Row = dict[str, Value]

DOCS = ROOT / "docs"
FIGURES, PAGE, CURVES = DOCS / "scaling.json", DOCS / "scaling.md", DOCS / "scaling.svg"
LIMIT_S = 900.0
START_S = 180.0
NAMES = ("one", "two", "three")
CONTAINERS, WAITING = 2, 4
SETTINGS = {
    "NETWORK": "egress",
    "NETWORK_ALLOW": f"{HUB}/32",
    "POOL_MIN_IDLE": str(CONTAINERS),
    "POOL_MAX_CONTAINERS": str(CONTAINERS),
    "POOL_MAX_WAITING": str(WAITING),
    "RUN_TIMEOUT_S": "20",
    "DRAIN_DELAY_S": "3",
    "CANARY_INTERVAL_S": "0",
}
CLIENTS = 4
"""As many as the containers that are left with one server away: none has to be refused."""
CROWD = 3 * len(NAMES) * (CONTAINERS + WAITING)
"""Thrice what all servers together may run and let wait."""
REQUESTS = 2000
"""At least so many under each fault, and without one."""
FROZEN_S = 6.0
TURNS, TURN = 25, 20
ADDED_MS, TIMES = 1.0, 1.4


class Machines:
    """The servers, each with an engine of its own, and the address of Envoy before them."""

    def __init__(self, nodes: Sequence[Node], directory: Path) -> None:
        self.nodes = nodes
        self.ports = [int(port) for port in free_ports(len(nodes))]
        self.servers = [self._server(number, directory) for number in range(len(nodes))]
        self._directory = directory

    def _server(self, number: int, directory: Path) -> Server:
        engine = self.nodes[number].engine
        settings = {
            **SETTINGS,
            "IMAGE": available_images()[0],
            "DOCKER_HOST": f"unix://{engine.socket}",
            "SERVER_NAME": NAMES[number],
            "PORT": str(self.ports[number]),
        }
        return Server(directory / NAMES[number], settings, engine=engine.client)

    async def start(self, number: int) -> None:
        """Start a server that is not there, and wait until it is ready."""
        server = self.servers[number] = self._server(number, self._directory)
        server.start()
        await server.listening()
        await server.ready(within_s=START_S)

    async def rest(self) -> None:
        """Let all go on as it is."""

    async def update(self) -> None:
        """Restart each server as an update does, one after the other."""
        for number, server in enumerate(self.servers):
            server.process.send_signal(signal.SIGTERM)
            if await server.ended():
                raise BenchError(f"the server ended badly: {server.stderr[-2000:]}")
            await self.start(number)
            await asyncio.sleep(1.5)  # until Envoy has looked

    async def kill(self) -> None:
        """Kill a server with what runs there, and start it again."""
        self.servers[1].process.kill()
        await self.servers[1].ended()
        await asyncio.sleep(2.0)
        await self.start(1)

    async def freeze(self) -> None:
        """Stop an engine in its tracks for a while."""
        engine = self.nodes[2].engine
        engine.freeze()
        try:
            await asyncio.sleep(FROZEN_S)
        finally:
            engine.thaw()
        await self.servers[2].ready()

    async def stop(self) -> None:
        """End what is there; what a killed server left ends with its engine."""
        for server in self.servers:
            if server.process.poll() is None:
                server.process.terminate()
                with contextlib.suppress(Exception):
                    await server.ended()


async def main(seed: int, *, redraw: bool) -> int:
    """Measure unless told not to, draw, and fill in the tables; return the exit status."""
    met = True
    if not redraw:
        if reason := unusable():
            raise BenchError(reason)
        try:
            program("envoy")
        except pytest.skip.Exception as skipped:
            raise BenchError(str(skipped)) from None
        try:
            async with asyncio.timeout(LIMIT_S):
                found, met = await measure(seed)
        except AssertionError as error:  # of the tests' parts
            raise BenchError(str(error)[:500]) from error
        FIGURES.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    publish(json.loads(FIGURES.read_text(encoding="utf-8")))
    print(f"\ndrawn from {FIGURES.relative_to(ROOT)}, tables in {PAGE.relative_to(ROOT)}")
    return 0 if met else 1


def publish(found: Mapping[str, object]) -> None:
    """Write the curves and the tables of these figures."""
    CURVES.write_text(plot(found), encoding="utf-8")
    PAGE.write_text(embed(PAGE.read_text(encoding="utf-8"), found), encoding="utf-8")


async def measure(seed: int) -> tuple[dict[str, object], bool]:
    """Measure everything; return the figures, and whether no run was lost or ran twice."""
    before = load_average()
    async with machines() as (fleet, made), proxying_all(made) as port:
        overhead = await _overhead(made.ports, port)
        rows, sound = await _faults(fleet, made, port)
    print("\nEnvoy before stubs of a fixed rate", flush=True)
    measured = await stubs.measure(seed)
    simulated = await asyncio.to_thread(figures, seed)
    about = {
        "date": time.strftime("%Y-%m-%d %H:%M:%S %Z"),
        "machine": machine(),
        "load average": before,
        "load average at the end": load_average(),
    }
    found = {
        "seed": seed,
        "overhead": {**overhead, **about},
        "machines": rows,
        "measured": measured,
        "simulated": simulated,
    }
    return found, sound


@contextlib.asynccontextmanager
async def machines() -> AsyncIterator[tuple[Fleet, Machines]]:
    """Start engines and servers, and end them all."""
    with tempfile.TemporaryDirectory(prefix="pgexec-") as directory:
        fleet = Fleet(Path(directory))
        made: Machines | None = None
        try:
            fleet.create()
            shared = find_engine("").removeprefix("unix://")
            image = available_images()[0]
            settings = load_settings()[0]  # as the servers find them, in the checkout
            bundle = ""
            if settings.ca_bundle:
                bundle = await asyncio.to_thread(Path(settings.ca_bundle).read_text)
            made_of_it = await prepared(settings, bundle)
            for _ in NAMES:
                node = await fleet.add()
                for name in (image, made_of_it):
                    await node.engine.copy_image(shared, name)
            made = Machines(fleet.nodes, Path(directory))
            for number in range(len(NAMES)):
                await made.start(number)
            yield fleet, made
        finally:
            if made is not None:
                await made.stop()
            await asyncio.to_thread(fleet.close)


@contextlib.asynccontextmanager
async def proxying_all(made: Machines) -> AsyncIterator[int]:
    """Start Envoy before all servers; give its port."""
    with tempfile.TemporaryDirectory(prefix="pgexec-envoy-") as directory:
        async with proxying("envoy", Path(directory) / "envoy", made.ports) as proxy:
            yield proxy.port


async def _overhead(servers: Sequence[int], proxy: int) -> dict[str, float]:
    """Measure p50 of `print(1)` at the servers and through Envoy, in turns.

    Without the proxy, the servers take turns, too. Envoy asks all of them, and one that is asked
    seldom is slower: one that got every request would win by what is no doing of the proxy's.
    """
    ways = [[await ClientConnection.open(port) for port in ports] for ports in (servers, (proxy,))]
    took: list[list[float]] = [[], []]
    for turn in range(TURNS + 1):
        for lines, times in zip(ways, took, strict=True):
            for line in itertools.islice(itertools.cycle(lines), TURN):
                began = time.perf_counter()
                await ask_to_print(line)
                if turn:  # the first turn is for warming up
                    times.append((time.perf_counter() - began) * 1000)
                await asyncio.sleep(0.005)  # for the reset, which is no part of an answer
    for line in itertools.chain(*ways):
        line.close()
    direct, through = map(median, took)
    section = Section("print(1), at the servers and through Envoy, in turns")
    section.row("at the servers", p50_ms=direct, p99_ms=percentile(took[0], 99), n=len(took[0]))
    section.row("through Envoy", p50_ms=through, p99_ms=percentile(took[1], 99), n=len(took[1]))
    section.want_at_most("more at p50, ms", through - direct, ADDED_MS)
    section.want_at_most("times at p50", through / direct, TIMES)
    section.show()
    return {
        "direct_ms": direct,
        "proxy_ms": through,
        "added_ms": through - direct,
        "times": through / direct,
    }


async def _faults(fleet: Fleet, made: Machines, port: int) -> tuple[list[Row], bool]:
    """Send runs while machines fail; return what became of them, and whether that was right."""
    section = Section(f"{len(NAMES)} servers of {CONTAINERS} containers behind Envoy: what became")
    rows: list[Row] = []
    url = f"http://127.0.0.1:{port}"

    def done(what: str, load: CountedLoad, began: float, **more: Value) -> None:
        row = _row(load, load.since(began))
        rows.append({"what": what, **row, **more})
        section.row(what, **row, **more)

    async with (
        RunCounter(fleet.listener()) as counter,
        ClientSession(timeout=ClientTimeout(60)) as session,
    ):
        async with CountedLoad(session, url, counter, CLIENTS) as load:
            befalls: tuple[tuple[str, Callable[[], Awaitable[None]]], ...] = (
                ("nothing", made.rest),
                ("a rolling update", made.update),
                ("a server killed", made.kill),
                (f"an engine frozen for {FROZEN_S:g} s", made.freeze),
            )
            for what, befall in befalls:
                began = time.monotonic()
                await load.more(50)
                await befall()
                await load.more(50)
                await load.until_all(REQUESTS, since=began)
                done(what, load, began)
        done("all of these", load, 0.0)
        crowd, early = await _crowd(made, session, url, counter)
        done(
            f"{CROWD} clients, room for {CROWD // 3}",
            *(crowd, 0.0),
            refused_before_all_were_asked=early,
            p50_of_refusals_ms=round(median(_took_ms(crowd.told, 503)), 1),
        )
    section.note("lost: no answer at all, or one that is not what the counter saw")
    section.note("told 502: the run may have run, and the client is told so")
    section.show()
    lost = [*load.lies, *crowd.lies]
    for one in lost[:5]:
        print(f"  lost: {one}, begun {counter.begun[one.token]} times")
    return rows, not (lost or load.twice or crowd.twice)


def _row(load: CountedLoad, told: Sequence[Told]) -> Row:
    statuses = [one.status for one in told]
    took = _took_ms(told, 200)
    tokens = {one.token for one in told}
    return {
        "requests": len(told),
        "served": statuses.count(200),
        "refused_503": statuses.count(503),
        "told_502": statuses.count(502),
        "lost": len([one for one in load.lies if one.token in tokens]),
        "twice": len(tokens.intersection(load.twice)),
        "p50_ms": round(median(took), 1),
        "longest_ms": round(max(took)),
    }


def _took_ms(told: Sequence[Told], status: int) -> list[float]:
    return [(one.ended - one.began) * 1000 for one in told if one.status == status]


async def _crowd(
    made: Machines, session: ClientSession, url: str, counter: RunCounter
) -> tuple[CountedLoad, int]:
    """Ask for more than all can take; return the load, and how many were refused too early.

    Too early is a 503 of a request that some server has not refused itself: it may have had room.
    """
    async with CountedLoad(session, url, counter, CROWD, pause="time.sleep(0.2)") as load:
        await load.until_all(REQUESTS)
    refusals = [
        {one["request_id"] for one in server.log if one.get("status") == 503}
        for server in made.servers
    ]
    refused_by_all = set.intersection(*refusals)
    early = sum(one.status == 503 and one.token not in refused_by_all for one in load.told)
    return load, early
