"""Imports of the standard library on an idle pool, beside the same pool without `idle_imports`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from bench import memory
from bench.client import ClientConnection, post_run
from bench.dependencies import time_runs
from bench.report import Section, median, milliseconds
from bench.server import serving
from pgexec.settings.modules import IDLE_IMPORTS

if TYPE_CHECKING:
    from bench.bed import Bed
    from bench.server import Server

ROUNDS = 3
PAUSE_S = 0.4
"""So long the pool is idle before each run: long enough for what the last run imported."""
WARM_UP_RUNS, BUSY_RUNS = 20, 200
WANTED, WANTED_OF_OTHERS, WANTED_MIB = 1.5, 1.03, 15
PRINT = "print(1)"


async def measure(bed: Bed) -> Section:
    """Measure what an import costs a snippet, and what the imports ahead cost all others."""
    section = Section("Imports of the standard library on an idle pool, one request at a time")
    one = {"pool_min_idle": 1, "pool_max_containers": 1}
    named = ",".join(IDLE_IMPORTS)
    async with serving(idle_imports=named, **one) as server, serving(**one) as without:
        ahead = await ClientConnection.open(server.port)
        plain = await ClientConnection.open(without.port)
        for connection in (ahead, plain):
            await time_runs(connection, post_run(PRINT), WARM_UP_RUNS)
        prints = await _paused(ahead, PRINT, ROUNDS * 4)
        worst = 0.0
        for name in IDLE_IMPORTS:
            code = f"import {name}\n{PRINT}"
            first = await _paused(ahead, code, 1)
            times = await _paused(ahead, code, ROUNDS)
            cold = await _paused(plain, code, ROUNDS)
            prints += await _paused(ahead, PRINT, 1)
            ratio = median(times) / median(prints)
            worst = max(worst, ratio)
            section.row(
                f"import {name}",
                **milliseconds(times),
                first_ms=first[0] * 1000,
                without_ms=median(cold) * 1000,
                times_print=ratio,
            )
        section.row(PRINT, **milliseconds(prints))
        section.want_at_most("the slowest import / print(1), p50", worst, WANTED)
        busy, alone = [], []
        for _ in range(ROUNDS):
            busy += await time_runs(ahead, post_run(PRINT), BUSY_RUNS)
            alone += await time_runs(plain, post_run(PRINT), BUSY_RUNS)
        ratio = median(busy) / median(alone)
        section.want_at_most(
            "print(1) without a pause, with / without, p50", ratio, WANTED_OF_OTHERS
        )
        used = await _idle_mib(bed, server)
        section.want_at_most("anonymous memory of an idle container, MiB", used, WANTED_MIB)
        ahead.close()
        plain.close()
    return section


async def _paused(connection: ClientConnection, code: str, count: int) -> list[float]:
    """Return the seconds that each of so many runs took, with a pause before each."""
    times = []
    for _ in range(count):
        await asyncio.sleep(PAUSE_S)
        times += await time_runs(connection, post_run(code), 1)
    return times


async def _idle_mib(bed: Bed, server: Server) -> float:
    await server.settled()
    await asyncio.sleep(1)
    containers = await bed.pooled_by(server.pid)
    return max(memory.of_container(one).anonymous for one in containers)
