"""Imports of dependencies, made ahead by the last run, beside a server that makes none ahead."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING

from bench.client import ClientConnection, post_run
from bench.dependencies import time_runs
from bench.report import Section, median, milliseconds
from bench.server import serving

if TYPE_CHECKING:
    from bench.bed import Bed

PACKAGES = ("numpy", "pandas")
IMPORTS = "import numpy\nimport pandas\nprint(1)"
PRINT = "print(1)"
ROUNDS, BUSY_ROUNDS = 12, 6
PAUSE_S = 1.5
"""So long the pool is idle before each run: long enough for the imports, also on a busy machine."""
WARM_UP_RUNS, BUSY_RUNS = 20, 150
WANTED, WANTED_OF_OTHERS, WANTED_LATER_MS = 0.1, 1.03, 3.0


async def measure(bed: Bed) -> Section:
    """Measure the second import of a set of dependencies, and what it costs all others."""
    names = ", ".join(PACKAGES)
    section = Section(f"Imports of {names} ahead, one container, one request at a time")
    volumes = [f"pgexec-bench-{secrets.token_hex(8)}" for _ in range(2)]
    one = {"pool_min_idle": 1, "pool_max_containers": 1}
    try:
        async with (
            serving(dependency_volume=volumes[0], **one) as server,
            serving(dependency_volume=volumes[1], ahead_memory="0", **one) as without,
        ):
            ahead = await ClientConnection.open(server.port)
            plain = await ClientConnection.open(without.port)
            busy: list[float] = []
            alone: list[float] = []
            for connection in (ahead, plain):
                await time_runs(connection, post_run(PRINT), WARM_UP_RUNS)
            for _ in range(BUSY_ROUNDS):
                busy += await time_runs(ahead, post_run(PRINT), BUSY_RUNS)
                alone += await time_runs(plain, post_run(PRINT), BUSY_RUNS)
            importing = post_run(IMPORTS, dependencies=PACKAGES)
            for connection in (ahead, plain):
                await time_runs(connection, importing, 1)  # installs
            hits: list[float] = []
            cold: list[float] = []
            prints: list[float] = []
            later: list[float] = []
            for _ in range(ROUNDS):
                await asyncio.sleep(PAUSE_S)
                hits += await time_runs(ahead, importing, 1)
                cold += await time_runs(plain, importing, 1)
                await asyncio.sleep(PAUSE_S)
                later += await time_runs(ahead, post_run(PRINT), 1)
                prints += await time_runs(plain, post_run(PRINT), 1)
                await time_runs(ahead, importing, 1)
            ahead.close()
            plain.close()
    finally:
        for volume in volumes:
            await bed.remove_volume(volume)
    section.row(f"import {names}, not ahead", **milliseconds(cold))
    section.row(f"import {names}, from the second request on", **milliseconds(hits))
    section.row(f"{PRINT} after a pause, nothing ahead", **milliseconds(prints))
    section.row(f"{PRINT} where {names} were imported ahead for nothing", **milliseconds(later))
    section.row(f"{PRINT} without a pause, the feature off", **milliseconds(alone))
    section.row(f"{PRINT} without a pause, the feature unused", **milliseconds(busy))
    section.want_at_most("second import / cold import, p50", median(hits) / median(cold), WANTED)
    late_ms = (median(later) - median(prints)) * 1000
    section.want_at_most("later for a run of something else, p50 ms", late_ms, WANTED_LATER_MS)
    unused = median(busy) / median(alone)
    section.want_at_most("unused / off, print(1), p50", unused, WANTED_OF_OTHERS)
    return section
