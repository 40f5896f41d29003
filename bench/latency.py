"""One request at a time: HTTP `/run`, a warm `docker exec`, and the classic flow, in turns."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from bench.bed import MANY_USES
from bench.client import ClientConnection, get
from bench.load import ask_to_print
from bench.report import Section, median, milliseconds
from bench.server import serving

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from bench.bed import Bed

ROUNDS = 20
RUNS, PINGS, EXECS, STOCK_EXECS = 50, 20, 5, 3  # in each round; the classic flow once
WARM_UP_RUNS = 60
WANTED_OF_EXEC, WANTED_OF_CLASSIC = 20, 150


async def measure(bed: Bed) -> Section:
    """Measure the latency of `print(1)`."""
    flows = bed.flows
    section = Section("Latency of print(1), one request at a time")
    took: dict[str, list[float]] = {name: [] for name in ("run", "unworn", "ping", "exec", "stock")}
    classic: list[float] = []
    classic_removed: list[float] = []
    async with (
        serving() as server,
        serving(max_uses=MANY_USES) as unworn,
        flows.warm(bed.prepared) as warm,
        flows.warm(bed.stock) as stock,
    ):
        connection = await ClientConnection.open(server.port)
        to_unworn = await ClientConnection.open(unworn.port)
        for one in (connection, to_unworn):
            await _times(WARM_UP_RUNS, partial(ask_to_print, one))
        await flows.execute(warm)
        await flows.execute(stock)
        for _ in range(ROUNDS):
            await server.settled()
            took["run"] += await _times(RUNS, lambda: ask_to_print(connection))
            await server.settled()
            took["unworn"] += await _times(RUNS, lambda: ask_to_print(to_unworn))
            took["ping"] += await _times(PINGS, lambda: connection.ask(get("/ping")))
            took["exec"] += await _times(EXECS, lambda: flows.execute(warm))
            took["stock"] += await _times(STOCK_EXECS, lambda: flows.execute(stock))
            started = time.perf_counter()
            clock: list[float] = []
            await flows.classic(bed.prepared, clock)
            classic.append(clock[0] - started)
            classic_removed.append(clock[1] - started)
        connection.close()
        to_unworn.close()
    by = "docker CLI" if flows.cli else "API, for want of a docker CLI"
    run = median(took["run"])
    rows = {
        "HTTP /run, kept-alive, idle containers": took["run"],
        f"  the same, PGEXEC_MAX_USES={MANY_USES}": took["unworn"],
        "  HTTP alone (/ping)": took["ping"],
        "warm docker exec python3 -c, aiodocker, same image": took["exec"],
        "  the same in the stock image": took["stock"],
        f"classic flow, up to the output ({by})": classic,
        "  the same with rm -f": classic_removed,
    }
    for what, times in rows.items():
        section.row(what, **milliseconds(times), times_run=median(times) / run)
    section.note("classic flow: run -itd, exec mkdir, exec writing the file, exec python3, rm -f")
    section.want("warm exec / run, p50", median(took["exec"]) / run, at_least=WANTED_OF_EXEC)
    section.want("classic / run, p50", median(classic_removed) / run, at_least=WANTED_OF_CLASSIC)
    return section


async def _times(count: int, work: Callable[[], Awaitable[object]]) -> list[float]:
    times = []
    for _ in range(count):
        started = time.perf_counter()
        await work()
        times.append(time.perf_counter() - started)
    return times
