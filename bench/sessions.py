"""Sessions beside `/run` and beside a local Jupyter kernel without isolation, in turns."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from typing import TYPE_CHECKING

from bench import cpu, memory
from bench.client import ClientConnection
from bench.driver import driving
from bench.errors import AnswerError, BenchError
from bench.load import ask_to_print
from bench.report import Section, median, milliseconds
from bench.server import serving

if TYPE_CHECKING:
    from bench.bed import Bed

KERNEL = ("jupyter_client==8.6.3", "ipykernel==6.29.5")
LLM_SANDBOX = "llm-sandbox[docker]==0.3.46"
PEER_IMAGE = "BENCH_INTERACTIVE_IMAGE"
"""The variable that names an image for llm-sandbox, as `bench/interactive.py` says."""
PEER_ROUNDS, PEER_CELLS = 2, 5
ROUNDS, CELLS, RUNS = 8, 20, 20
IDLE, IDLE_S = 50, 5.0
SECOND = "x += 1; x"


async def measure(bed: Bed) -> Section:
    """Measure opening a session, its cells, its memory and what it takes when it is idle."""
    section = Section("Sessions, one request at a time")
    took: dict[str, list[float]] = {
        name: [] for name in ("run", "open", "cell", "start", "kernel cell")
    }
    sizes: dict[str, list[float]] = {"session": [], "kernel": []}
    async with (
        serving(pool_min_idle=4, pool_max_containers=12) as server,
        driving("kernel", *KERNEL) as kernel,
    ):
        connection = await ClientConnection.open(server.port)
        for _ in range(RUNS):
            await ask_to_print(connection)
        for _ in range(ROUNDS):
            await server.settled()
            took["run"] += [await _timed(ask_to_print(connection)) for _ in range(RUNS)]
            await server.settled()
            before = {*await bed.pooled_by(server.pid)}
            began = time.perf_counter()
            name = (await _ask(connection, "POST", "/sessions", {}, 201))["id"]
            took["open"].append(time.perf_counter() - began)
            path = f"/sessions/{name}/run"
            await _ask(connection, "POST", path, {"code": "x = 0"}, 200)
            for _ in range(CELLS):
                work = _ask(connection, "POST", path, {"code": SECOND}, 200)
                took["cell"].append(await _timed(work))
            sizes["session"].append(max(_proportional(one) for one in before))
            await _ask(connection, "DELETE", f"/sessions/{name}", None, 204)
            took["start"].append(await kernel("start"))
            await kernel("run " + json.dumps("x = 0"))
            took["kernel cell"] += [await kernel("run " + json.dumps(SECOND)) for _ in range(CELLS)]
            sizes["kernel"].append(memory.of_process(int(await kernel("pid"))))
            await kernel("stop")
        connection.close()
    names = {
        "run": "HTTP /run of print(1)",
        "open": "POST /sessions",
        "cell": f"  a cell, {SECOND}",
        "start": "local kernel, no isolation: start",
        "kernel cell": f"  a cell, {SECOND}",
    }
    for key, what in names.items():
        section.row(what, **milliseconds(took[key]))
    section.row("memory of an idle session, MiB (PSS)", p50=median(sizes["session"]))
    section.row("memory of an idle kernel, MiB (PSS)", p50=median(sizes["kernel"]))
    section.want_at_most("open / run, p50", median(took["open"]) / median(took["run"]), 2)
    section.want_at_most(
        "open / start of a kernel, p50", median(took["open"]) / median(took["start"]), 0.01
    )
    section.want_at_most(
        "cell / kernel's, p50", median(took["cell"]) / median(took["kernel cell"]), 1
    )
    section.want_at_most(
        "memory / kernel's", median(sizes["session"]) / median(sizes["kernel"]), 1 / 3
    )
    await _measure_peer(section)
    await _measure_idle(bed, section)
    return section


async def _measure_peer(section: Section) -> None:
    """Add an interactive session of llm-sandbox, where there is an image for it."""
    image = os.environ.get(PEER_IMAGE)
    if not image:
        section.note(f"llm-sandbox's interactive session: only with {PEER_IMAGE}")
        return
    starts, cells = [], []
    async with driving("interactive", LLM_SANDBOX, arguments=(image,)) as peer:
        for _ in range(PEER_ROUNDS):
            starts.append(await peer("start"))
            await peer("run " + json.dumps("x = 0"))
            cells += [await peer("run " + json.dumps(SECOND)) for _ in range(PEER_CELLS)]
            await peer("stop")
    section.row("llm-sandbox 0.3.46, interactive session: start", **milliseconds(starts))
    section.row(f"  a cell, {SECOND}", **milliseconds(cells))


async def _measure_idle(bed: Bed, section: Section) -> None:
    """Add what idle sessions take of a processor."""
    limits = {"pool_max_containers": IDLE + 2, "sessions_max": IDLE, "pool_min_idle": 1}
    async with serving(**limits, lease_timeout_s=120) as server:
        connection = await ClientConnection.open(server.port)
        for _ in range(IDLE):
            name = (await _ask(connection, "POST", "/sessions", {}, 201))["id"]
            await _ask(connection, "POST", f"/sessions/{name}/run", {"code": "x = 1"}, 200)
        await server.settled()  # else a container that starts would count
        containers = await bed.pooled_by(server.pid)
        await asyncio.sleep(1)
        before = cpu.spent(containers, server.pid)
        await asyncio.sleep(IDLE_S)
        after = cpu.spent(containers, server.pid)
        connection.close()
    used = (after.containers_s - before.containers_s) / IDLE_S
    section.row(f"{IDLE} idle sessions, processors used", p50=used)
    section.want_at_most(f"processors of {IDLE} idle sessions", used, 0.005)


def _proportional(container_id: str) -> float:
    with contextlib.suppress(BenchError):
        return memory.of_container(container_id).proportional
    return 0.0


async def _timed(work: object) -> float:
    began = time.perf_counter()
    await work  # type: ignore[misc]
    return time.perf_counter() - began


async def _ask(
    connection: ClientConnection, method: str, path: str, body: object, status: int
) -> dict[str, str]:
    data = b"" if body is None else json.dumps(body).encode()
    head = f"{method} {path} HTTP/1.1\r\nHost: bench\r\n"
    if method == "DELETE":
        head += "Connection: keep-alive\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    got, answer = await connection.ask(head.encode() + data)
    if got != status:
        raise AnswerError(f"{method} {path}: {got} {answer[:200]!r}")
    return dict(json.loads(answer)) if answer else {}
