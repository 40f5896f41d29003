"""Output, beside the plain interpreter that writes into pipes, and beside the code before.

`BENCH_BEFORE` names a directory with the sources to compare with, such as a work tree of git.
Without it, only the plain interpreter of the same image is compared.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bench.client import ClientConnection, post_run
from bench.errors import AnswerError, BenchError
from bench.load import rate
from bench.report import Section, median, milliseconds
from bench.server import ROOT, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from bench.bed import Bed

ROUNDS, SLICE_S = 7, 1.5
PRINT = "print(1)"
CASES = {
    PRINT: (PRINT, 30),
    "10,000 prints": ("for i in range(10_000): print(i)", 3),
    "100,000 prints": ("for i in range(100_000): print(i)", 1),
    "100,000 writes, both streams in turns": (
        "import sys\nfor i in range(50_000): print(i); print(i, file=sys.stderr)",
        1,
    ),
}
PLAIN = {"10,000 prints": 1.1, "100,000 prints": 1.5}
"""At most so many times the plain interpreter."""
TURNS = "100,000 writes, both streams in turns"
WANTED_OF_TURNS, WANTED_OF_PRINT, WANTED_OF_RATE = 0.2, 1 / 0.97, 0.97
ORDER = """
import subprocess, sys
print("before")
subprocess.run([sys.executable, "-Ic", "import sys; print('within', file=sys.stderr)"])
print("after")
"""
IN_ORDER, ORDERS = "before\nwithin\nafter\n", 100
_DRIVER = """
import json, subprocess, sys, time
for line in sys.stdin:
    began = time.perf_counter()
    subprocess.run(["python3", "-c", json.loads(line)], capture_output=True, check=True)
    print(time.perf_counter() - began, flush=True)
"""


async def measure(bed: Bed) -> Section:
    """Measure each case in turns: this code, the code before, and the plain interpreter."""
    section = Section("Output: p50 in ms, in turns in one run")
    before = os.environ.get("BENCH_BEFORE")
    one = {"pool_min_idle": 1, "pool_max_containers": 1}
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        sources = {"now": ROOT, **({"before": Path(before)} if before else {})}
        runs = {name: await enter(_served(path, **one)) for name, path in sources.items()}
        plain = await enter(_plain(bed))
        took: dict[str, dict[str, list[float]]] = {case: {} for case in CASES}
        for _ in range(ROUNDS):
            for case, (code, times) in CASES.items():
                for name, ask in {**runs, "plain": plain}.items():
                    count = times if name != "plain" else min(times, 3)
                    took[case].setdefault(name, []).extend([await ask(code) for _ in range(count)])
        rates: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(ROUNDS):
            for name, ask in runs.items():
                rates[name].append(await rate([partial(ask, PRINT)], SLICE_S))
        right = await _orders(one)
    for case, times_of in took.items():
        section.row(case, **{name: median(times) * 1000 for name, times in times_of.items()})
    section.row("print(1) now", **milliseconds(took[PRINT]["now"]))
    section.row("runs per second", **{name: median(values) for name, values in rates.items()})
    for case, bound in PLAIN.items():
        ratio = median(took[case]["now"]) / median(took[case]["plain"])
        section.want_at_most(f"{case} / the plain interpreter", ratio, bound)
    if before:
        for case, bound in {TURNS: WANTED_OF_TURNS, PRINT: WANTED_OF_PRINT}.items():
            ratio = median(took[case]["now"]) / median(took[case]["before"])
            section.want_at_most(f"{case} / before", ratio, bound)
        ratio = median(rates["now"]) / median(rates["before"])
        section.want("runs per second / before", ratio, at_least=WANTED_OF_RATE)
    section.want("a child's stderr between two prints, of 100", right, at_least=ORDERS)
    return section


@contextlib.asynccontextmanager
async def _served(
    source: Path, **settings: object
) -> AsyncIterator[Callable[[str], Awaitable[float]]]:
    """Yield a function that runs code on a server of these sources; it returns the seconds."""
    async with serving(source, **settings) as server:
        connection = await ClientConnection.open(server.port)

        async def ask(code: str) -> float:
            if code != PRINT:
                await server.settled()
            began = time.perf_counter()
            status, body = await connection.ask(post_run(code))
            took = time.perf_counter() - began
            if status != 200 or json.loads(body)["exit_code"] != 0:
                raise AnswerError(f"HTTP {status}: {body[:300]!r}")
            return took

        yield ask
        connection.close()


@contextlib.asynccontextmanager
async def _plain(bed: Bed) -> AsyncIterator[Callable[[str], Awaitable[float]]]:
    """Yield a function that runs code in a new interpreter of the same image."""
    if not bed.flows.cli:
        raise BenchError("the plain interpreter is started by the docker command: there is none")
    process = await asyncio.create_subprocess_exec(
        *(bed.flows.cli, "run", "--rm", "-i", "--network", "none", "--label", "pgexec.bench"),
        *(bed.stock, "python3", "-c", _DRIVER),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    stdin, stdout = process.stdin, process.stdout
    assert stdin is not None
    assert stdout is not None

    async def ask(code: str) -> float:
        stdin.write(json.dumps(code).encode() + b"\n")
        return float(await stdout.readline())

    try:
        yield ask
    finally:
        stdin.close()
        await process.wait()


async def _orders(settings: dict[str, int]) -> int:
    """Return how many of the answers have a child's stderr where the parent waited for it."""
    right = 0
    async with serving(**settings) as server:
        connection = await ClientConnection.open(server.port)
        for _ in range(ORDERS):
            _, body = await connection.ask(post_run(ORDER))
            right += json.loads(body)["data"] == IN_ORDER
        connection.close()
    return right
