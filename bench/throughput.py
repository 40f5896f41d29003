"""Sustained runs per second: recycled containers against `docker exec`, fresh against bare."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from bench.bed import MANY_USES, reset, run, settle
from bench.cpu import spent
from bench.engine_flows import bare
from bench.errors import AnswerError
from bench.load import http_rate, rate
from bench.report import Section, median
from bench.server import serving

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from bench.bed import Bed
    from pool.container import Container

CONTAINERS = 4
CLIENTS = 8
"""More than containers, so that a container finds work when it comes back clean."""
ROUNDS = 4
SLICE_S, EXEC_SLICE_S = 2.5, 4.0
WARMUP_S = 0.3
WANTED_OF_EXEC = 25

FRESH_CLIENTS = 8
FRESH_ROUNDS = 3
FRESH_SLICE_S = 5.0
DEPLETE_S = 1.5
"""Long enough to use up what is idle: from there on each run waits for a start."""
CONCURRENCIES = (2, 3, 4, 6)
TRIAL_S = 2.0
PATIENCE_S = 60
"""On a busy machine a fresh container may take longer than a lease waits by default."""
WANTED_OF_BARE = 0.9


@dataclass(slots=True)
class _Row:
    """One way to run snippets, and what it reached in each round."""

    what: str
    work: Callable[[], Awaitable[float]]
    container_ids: Sequence[str] = ()
    server_pid: int | None = None
    rates: list[float] = field(default_factory=list)
    cpu_ms: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    async def measure(self) -> None:
        """Measure once: runs per second, and the CPU time that a run took of each party."""
        before, started = spent(self.container_ids, self.server_pid), time.perf_counter()
        self.rates.append(await self.work())
        after, runs = (
            spent(self.container_ids, self.server_pid),
            self.rates[-1] * (time.perf_counter() - started),
        )
        for name in ("containers", "engine", "server"):
            used = getattr(after, f"{name}_s") - getattr(before, f"{name}_s")
            self.cpu_ms[name].append(used / runs * 1000)

    def columns(self, *, baseline: float) -> dict[str, float | None]:
        """Return the medians; a party that could not be watched is left out."""
        cpu = {f"{name}_cpu_ms": median(used) or None for name, used in self.cpu_ms.items()}
        return {**_columns(self.rates, baseline=baseline), **cpu}


async def measure_recycled(bed: Bed) -> Section:
    """Measure runs per second on four recycled containers."""
    section = Section(f"Sustained print(1) on {CONTAINERS} recycled containers")
    pool = {"pool_min_idle": CONTAINERS, "pool_max_containers": CONTAINERS}
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        server = await enter(serving(**pool, max_uses=MANY_USES))
        default = await enter(serving(**pool))
        direct = await enter(bed.containers(CONTAINERS))
        warm = [await enter(bed.flows.warm(bed.prepared)) for _ in range(CONTAINERS)]
        stream_ids = [one.id for one in direct]
        exec_ids = [one.id for one in warm]
        of_server = await bed.owned_by(server.pid)
        by_stream = [partial(_run, one) for one in direct]
        by_exec = [partial(bed.flows.execute, one) for one in warm]
        http = partial(http_rate, clients=CLIENTS, seconds=SLICE_S, warmup_s=WARMUP_S)
        rows = (
            _Row(
                f"HTTP, PGEXEC_MAX_USES={MANY_USES}",
                partial(http, server.port),
                of_server,
                server.pid,
            ),
            _Row("HTTP, PGEXEC_MAX_USES as it is", partial(http, default.port), (), default.pid),
            _Row("pool.Container, no HTTP", partial(rate, by_stream, SLICE_S), stream_ids),
            _Row(
                "warm docker exec loop, aiodocker", partial(rate, by_exec, EXEC_SLICE_S), exec_ids
            ),
        )
        for _ in range(ROUNDS):
            for row in rows:
                await row.measure()
                await default.settled()
    by_http, _, by_stream_row, by_exec_row = rows
    for row in rows:
        section.row(row.what, **row.columns(baseline=median(by_exec_row.rates)))
    section.note(f"{CLIENTS} HTTP clients; CPU of the containers where they stay the same")
    execs = median(by_exec_row.rates)
    section.want("HTTP / exec loop", median(by_http.rates) / execs, at_least=WANTED_OF_EXEC)
    direct_ratio = median(by_stream_row.rates) / execs
    section.note(f"pool.Container / exec loop: {direct_ratio:.3g}")
    return section


async def measure_fresh(bed: Bed) -> Section:
    """Measure runs per second where each gets a container that nobody has used."""
    section = Section("Sustained print(1), a fresh container for each run")
    work = partial(bed.flows.fresh, bare(bed.document))
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(serving(max_uses=1, lease_timeout_s=PATIENCE_S))
        await server.settled()
        trials = {many: await rate([work] * many, TRIAL_S) for many in CONCURRENCIES}
        best = max(trials, key=lambda many: trials[many])
        ours, theirs = (
            f"HTTP, {FRESH_CLIENTS} clients, PGEXEC_MAX_USES=1",
            (f"bare create + start + remove, aiodocker, {best} at once"),
        )
        rates: dict[str, list[float]] = {ours: [], theirs: []}
        for _ in range(FRESH_ROUNDS):
            rates[ours].append(
                await http_rate(server.port, FRESH_CLIENTS, FRESH_SLICE_S, warmup_s=DEPLETE_S)
            )
            await server.settled()
            await settle()
            rates[theirs].append(await rate([work] * best, FRESH_SLICE_S))
            await settle()
    bare_rate = median(rates[theirs])
    for what, found in rates.items():
        section.row(what, **_columns(found, baseline=bare_rate))
    tried = ", ".join(f"{many}: {found:.1f}/s" for many, found in trials.items())
    section.note(f"bare: same create document, main process sleep; tried at once: {tried}")
    section.want("fresh / bare", median(rates[ours]) / bare_rate, at_least=WANTED_OF_BARE)
    return section


def _columns(rates: Sequence[float], *, baseline: float) -> dict[str, float | None]:
    return {
        "per_s": median(rates),
        "lowest": min(rates),
        "highest": max(rates),
        "times_baseline": median(rates) / baseline,
    }


async def _run(container: Container) -> None:
    result, _ = await run(container, "print(1)")
    if result.data != b"1\n":
        raise AnswerError(f"{result}")
    await reset(container)
