"""The curves of docs/tuning.md: `python -m bench curves` measures and draws them.

What is measured goes to docs/curves.json; from it alone the plots and the tables of
docs/tuning.md are made, with --redraw without measuring. All requests come over HTTP from one
client, on the same cores as server and engine. It takes under three minutes or fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from dataclasses import asdict
from statistics import fmean
from typing import TYPE_CHECKING

from bench.bed import MANY_USES, settle, test_bed
from bench.client import ClientConnection, post_run
from bench.curves_draw import embed, plots
from bench.facts import facts, load_average
from bench.load import PRINT, arrivals, ask_to_print, http_rate, open_loop
from bench.memory import of_container
from bench.report import Section, median, percentile
from bench.server import ROOT, serving
from pgexec.backend.docker import DockerBackend

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.bed import Bed
    from bench.curves_draw import Document, Row
    from bench.server import Server

DOCS = ROOT / "docs"
FIGURES, PAGE = DOCS / "curves.json", DOCS / "tuning.md"
LIMIT_S = 178.0
LOAD_LIMITS_S = {"print": 55.0, "wait": 95.0}
"""Since the load began. On a busy machine curves rather end early than that there are none."""
SIZES = (1, 4, 16)
SNIPPETS = {
    "print": PRINT,
    # Waits as for a database, for 20 ms, and takes hardly more of a processor than the other.
    "wait": post_run("import time; time.sleep(0.02); print(1)"),
}
RATES = (25, 50, 100, 200, 300, 400, 600)
POINT_S, LEAST_REQUESTS = 2.0, 100
KEEPS_UP = 0.9
"""Saturated is what finishes less than this share of what is asked for in time."""
USES = (1, 10, 100, 1000)
USES_SIZE, USES_CLIENTS = 4, 8
CALM_PER_S, CALM_REQUESTS = 6, 20
RATE_S, DEPLETE_S = 2.5, 1.0
LAUNCHES = 4
WARM_UP_RUNS = 60
QUIET = {"network": "none", "canary_interval_s": 0}
"""Nothing that other settings do beside the runs."""
VARIANTS: Mapping[str, Mapping[str, object]] = {
    "as it is by default": {"network": "egress"},
    "PGEXEC_NETWORK=none": {"network": "none"},
    "PGEXEC_PREIMPORT empty": {"network": "none", "preimport": ()},
    "PGEXEC_PREIMPORT=asyncio,json,unittest": {
        "network": "none",
        "preimport": ("asyncio", "json", "unittest"),
    },
}
"""All but the first without a network, so that they differ from the second in one thing."""


async def main(seed: int, *, redraw: bool) -> int:
    """Measure unless told not to, draw, and fill in the tables; return the exit status."""
    if not redraw:
        async with asyncio.timeout(LIMIT_S):
            found = await measure(seed)
        FIGURES.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    publish(json.loads(FIGURES.read_text(encoding="utf-8")))
    print(f"\ndrawn from {FIGURES.relative_to(ROOT)}, tables in {PAGE.relative_to(ROOT)}")
    return 0


def publish(found: Document) -> None:
    """Write the plots and the tables of these figures."""
    for name, svg in plots(found).items():
        (DOCS / name).write_text(svg, encoding="utf-8")
    PAGE.write_text(embed(PAGE.read_text(encoding="utf-8"), found), encoding="utf-8")


async def measure(seed: int) -> Document:
    """Measure everything, showing it as it comes."""
    began = time.monotonic()
    async with test_bed() as bed:
        about = await facts(bed)
        for name, fact in about.items():
            print(f"{name + ':':14} {fact}", flush=True)
        variants = [await _variant(bed, *one) for one in VARIANTS.items()]
        _show("One container, by settings", variants)
        memory, load = await _load(bed, seed)
        uses = [await _uses(many, seed) for many in USES]
        _show(f"{USES_SIZE} containers, by PGEXEC_MAX_USES", uses)
    about["load average at the end"] = load_average()
    print(f"\ntook {time.monotonic() - began:.0f} s")
    kept = ("date", "machine", "load average", "engine", "runtime", "load average at the end")
    return {
        "seed": seed,
        "facts": [{"fact": name, "value": about[name]} for name in kept],
        "load": load,
        "memory": memory,
        "uses": uses,
        "variants": variants,
    }


async def _load(bed: Bed, seed: int) -> tuple[list[Row], list[Row]]:
    """Measure memory and then latency against load, all pool sizes in turns."""
    memory: list[Row] = []
    load: list[Row] = []
    async with contextlib.AsyncExitStack() as stack:
        servers: dict[int, Server] = {}
        for size in SIZES:
            pool = {"pool_min_idle": size, "pool_max_containers": size}
            server = await stack.enter_async_context(serving(**pool, **QUIET, max_uses=MANY_USES))
            await server.settled()
            servers[size] = server
            memory.append(await _memory(bed, server, f"{size} idle, never used"))
        for server in servers.values():
            await _warm_up(server)
        began = time.monotonic()
        for name, request in SNIPPETS.items():
            left = dict(servers)
            for rate in RATES:
                if time.monotonic() - began > LOAD_LIMITS_S[name]:
                    print(f"\nbench: no time for {name} at {rate}/s and more", file=sys.stderr)
                    break
                for size, server in list(left.items()):
                    point = await _point(server, request, rate, seed)
                    if point["saturated"]:
                        # Once more, lest what others did to the machine ends the curve.
                        point = await _point(server, request, rate, seed)
                    if point["saturated"]:
                        del left[size]
                    load.append({"snippet": name, "size": size, **point})
            _show(f"Latency against load: {name}", [one for one in load if one["snippet"] == name])
        last = SIZES[-1]
        memory.append(await _memory(bed, servers[last], f"{last} idle, used before"))
    _show("Memory of an idle container, MiB", memory)
    return memory, load


async def _point(server: Server, request: bytes, per_s: float, seed: int) -> Row:
    count = int(max(POINT_S * per_s, LEAST_REQUESTS))
    found = await open_loop(server.port, request, arrivals(per_s, count, seed))
    await server.settled()
    done = len(found.latencies_s)
    return {
        "per_s": per_s,
        "p50_ms": _ms(median(found.latencies_s)),
        "p99_ms": _ms(percentile(found.latencies_s, 99)),
        "answered": done,
        "refused": found.refused,
        "sent_late_p99_ms": _ms(percentile(found.late_s, 99)),
        "saturated": found.refused > 0 or done / found.took_s < KEEPS_UP * per_s,
    }


async def _memory(bed: Bed, server: Server, what: str) -> Row:
    """Return the mean over the server's containers."""
    found = [asdict(of_container(one)) for one in await bed.pooled_by(server.pid)]
    return {
        "what": what,
        **{name: round(fmean(one[name] for one in found), 2) for name in found[0]},
    }


async def _uses(many: int, seed: int) -> Row:
    """Measure runs a second as fast as they go, and the latency where few come."""
    pool = {"pool_min_idle": USES_SIZE, "pool_max_containers": USES_SIZE}
    async with serving(**pool, max_uses=many, lease_timeout_s=60, **QUIET) as server:
        await server.settled()
        if many > 1:
            await _warm_up(server)
        calm = await open_loop(server.port, PRINT, arrivals(CALM_PER_S, CALM_REQUESTS, seed))
        await server.settled()
        per_s = await http_rate(server.port, USES_CLIENTS, RATE_S, warmup_s=DEPLETE_S)
        await server.settled()
    return {
        "max_uses": many,
        "runs_per_s": round(per_s, 1),
        "p50_ms": _ms(median(calm.latencies_s)),
        "highest_ms": _ms(max(calm.latencies_s)),
    }


async def _variant(bed: Bed, what: str, changes: Mapping[str, object]) -> Row:
    """Start containers under other settings, one after the other."""
    backend = DockerBackend(bed.settings.model_copy(update=dict(changes)))
    took, anonymous = [], []
    try:
        await (await backend.launch(0)).destroy()
        for number in range(LAUNCHES):
            started = time.perf_counter()
            container = await backend.launch(number)
            took.append(time.perf_counter() - started)
            try:
                anonymous.append(of_container(container.id).anonymous)
            finally:
                await container.destroy()
            await settle(0.1)
    finally:
        await backend.close()
    return {
        "what": what,
        "start_ms": _ms(median(took)),
        "anonymous": round(fmean(anonymous), 2),
    }


async def _warm_up(server: Server) -> None:
    connection = await ClientConnection.open(server.port)
    try:
        for _ in range(WARM_UP_RUNS):
            await ask_to_print(connection)
    finally:
        connection.close()
    await server.settled()


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 2)


def _show(title: str, rows: Sequence[Row]) -> None:
    section = Section(title)
    for row in rows:
        columns = dict(row)
        what = " ".join(
            str(columns.pop(name)) for name in ("what", "max_uses", "size") if name in row
        )
        section.row(what, **columns)
    section.show()
