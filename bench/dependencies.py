"""Requests with dependencies: the first of its kind, the second, and one without, in turns."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING

from bench.client import ClientConnection, post_run
from bench.errors import AnswerError
from bench.report import Section, median, milliseconds
from bench.server import serving

if TYPE_CHECKING:
    from bench.bed import Bed

SETS = (("requests",), ("numpy", "pandas"))
ROUNDS, RUNS = 10, 20
WARM_UP_RUNS = 30
WANTED = 1.5
CODE = "print(1)"


async def measure(bed: Bed) -> Section:
    """Measure what dependencies cost a snippet that imports none of them."""
    section = Section("Dependencies: print(1) with and without, one request at a time")
    volume = f"pgexec-bench-{secrets.token_hex(8)}"  # a new one, so that nothing is there yet
    try:
        async with serving(dependency_volume=volume) as server:
            connection = await ClientConnection.open(server.port)
            without = post_run(CODE)
            await time_runs(connection, without, WARM_UP_RUNS)
            for names in SETS:
                wanted = post_run(CODE, dependencies=names)
                label = ", ".join(names)
                first = await time_runs(connection, wanted, 1)
                await server.settled()
                second = await time_runs(connection, wanted, 1)
                took: dict[bytes, list[float]] = {wanted: [], without: []}
                for _ in range(ROUNDS):
                    for request, times in took.items():
                        await server.settled()
                        times.extend(await time_runs(connection, request, RUNS))
                base = median(took[without])
                section.row(f"{label}: first (installs)", **milliseconds(first))
                section.row("  second", **milliseconds(second), times_without=second[0] / base)
                section.row(
                    "  from then on",
                    **milliseconds(took[wanted]),
                    times_without=median(took[wanted]) / base,
                )
                section.row("  without", **milliseconds(took[without]))
                ratio = median(took[wanted]) / base
                section.want_at_most(f"{label}: with / without, p50", ratio, WANTED)
            connection.close()
    finally:
        await bed.remove_volume(volume)
    return section


async def time_runs(connection: ClientConnection, request: bytes, count: int) -> list[float]:
    """Return the seconds that each of so many requests took. Raises `AnswerError`."""
    times = []
    for _ in range(count):
        started = time.perf_counter()
        status, body = await connection.ask(request)
        times.append(time.perf_counter() - started)
        if status != 200:
            raise AnswerError(f"{status}: {body[:300]!r}")
    return times
