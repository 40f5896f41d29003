"""Where the time of a run goes, and what the prepared image saves."""

from __future__ import annotations

import contextlib
import json
import time
from typing import TYPE_CHECKING

from bench.bed import reset, run
from bench.client import ClientConnection, post_run
from bench.errors import AnswerError
from bench.report import Section, median, percentile
from bench.server import serving

if TYPE_CHECKING:
    from bench.bed import Bed
    from pool.container import Container

SNIPPETS = {
    "print(1)": "ok",
    "import asyncio": "ok",
    "import sys; sys.exit(0)": "ok",
    "1 / 0": "error",
}
IMPORT = "import asyncio"
ROUNDS = 10
REPEATS = 10
STOCK_STARTS = 4
WANTED_OF_STOCK = 0.25


async def measure(bed: Bed) -> list[Section]:
    """Measure each snippet inside the container, over the stream, and over HTTP, in turns."""
    runner: dict[str, list[float]] = {code: [] for code in SNIPPETS}
    stream: dict[str, list[float]] = {code: [] for code in SNIPPETS}
    http: dict[str, list[float]] = {code: [] for code in SNIPPETS}
    resets: list[float] = []
    stock: dict[str, list[float]] = {code: [] for code in SNIPPETS}
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(serving())
        (prepared,) = await stack.enter_async_context(bed.containers(1))
        bare = await stack.enter_async_context(bed.stock_container())
        connection = await ClientConnection.open(server.port)
        stack.callback(connection.close)
        for _ in range(50):
            await _by_http(connection, "print(1)", "ok")
        for _ in range(ROUNDS):
            await server.settled()
            for code, status in SNIPPETS.items():
                for _ in range(REPEATS):
                    http[code].append(await _by_http(connection, code, status))
                for _ in range(REPEATS):
                    inside, outside, after = await _direct(prepared, code, status)
                    runner[code].append(inside)
                    stream[code].append(outside)
                    resets.append(after)
                stock[code].append((await _direct(bare, code, status))[0])
    table = Section("Where the time goes: p50 in ms of the same snippet, seen from three places")
    for code in SNIPPETS:
        inside, outside, whole = (median(one[code]) * 1000 for one in (runner, stream, http))
        table.row(
            code,
            runner=inside,
            stream=outside,
            HTTP=whole,
            HTTP_p99=percentile(http[code], 99) * 1000,
            engine_adds=outside - inside,
            HTTP_adds=whole - outside,
        )
    table.row("reset, after the answer", stream=median(resets) * 1000)
    table.note("runner: as it reports; stream: pool.Container.run; HTTP: the client's clock")
    return [table, await _images(bed, runner, stock)]


async def _images(
    bed: Bed, prepared: dict[str, list[float]], stock: dict[str, list[float]]
) -> Section:
    section = Section("Prepared against stock image: p50 in ms, as the runner reports it")
    for code in SNIPPETS:
        ours, theirs = median(prepared[code]) * 1000, median(stock[code]) * 1000
        section.row(code, prepared=ours, stock=theirs, ratio=ours / theirs)
    starts: dict[bool, list[float]] = {True: [], False: []}
    for number in range(STOCK_STARTS):
        for ours in (True, False):
            started = time.perf_counter()
            container = await (bed.backend.launch(number) if ours else bed.start_stock())
            starts[ours].append(time.perf_counter() - started)
            await container.destroy()
    section.row(
        "create, attach, start, ready",
        prepared=median(starts[True]) * 1000,
        stock=median(starts[False]) * 1000,
        ratio=median(starts[True]) / median(starts[False]),
    )
    network = bed.settings.network
    section.note(
        f"the start of the prepared one includes the network ({network}), the stock's none"
    )
    ratio = median(prepared[IMPORT]) / median(stock[IMPORT])
    section.want_at_most(f"{IMPORT}, prepared / stock", ratio, WANTED_OF_STOCK)
    if await _ships_bytecode(bed):
        section.note("the stock image ships bytecode, so that preparing has little to save")
    return section


async def _ships_bytecode(bed: Bed) -> bool:
    async with bed.stock_container() as container:
        code = (
            "import os, importlib.util as u\n"
            "print(os.path.exists(u.cache_from_source(os.__file__)))"
        )
        return (await run(container, code))[0].data == b"True\n"


async def _by_http(connection: ClientConnection, code: str, status: str) -> float:
    request = post_run(code)
    started = time.perf_counter()
    answer, body = await connection.ask(request)
    took = time.perf_counter() - started
    if answer != 200 or json.loads(body)["status"] != status:
        raise AnswerError(f"{code}: HTTP {answer}: {body[:300]!r}")
    return took


async def _direct(container: Container, code: str, status: str) -> tuple[float, float, float]:
    """Return the seconds that the runner reports, the round trip's, and the reset's."""
    result, took = await run(container, code)
    if result.status != status:
        raise AnswerError(f"{code}: {result}")
    started = time.perf_counter()
    await reset(container)
    return result.duration_s, took, time.perf_counter() - started
