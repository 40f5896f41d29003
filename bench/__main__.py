"""Measure pgexec against a running engine: `python -m bench [section …]`, or `make bench`.

Sections: latency, files, throughput, cpu, fresh, breakdown, dependencies, imports, output,
profiles, overload, readers, sessions, soak; all of them by default. `tuner`, alone, replays traces
against the policy without an engine, and draws docs/tuner.svg; `curves`, alone, measures and draws
what docs/tuning.md shows; `machines`, alone, as root, does so with servers behind Envoy, for
docs/scaling.md; `peers`, for docs/comparison.md, and `crowd`, for which 500 containers start, are
measured only where they are named. What is compared is measured in turns within one run: ratios
hold where absolute figures do not.
Exit status 1 when something could not be measured or the soak found a wrong answer or a
leak; with --strict also when a figure misses its bound.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from bench import (
    breakdown,
    crowd,
    curves,
    dependencies,
    files,
    imports,
    latency,
    machines,
    output,
    overload,
    peers,
    processor,
    profiles,
    readers,
    sessions,
    throughput,
    tuner,
)
from bench.bed import test_bed
from bench.errors import BenchError
from bench.facts import facts, load_average
from bench.report import Section, write_json
from bench.soak import soak
from pgexec.settings import SettingsError
from pool.errors import PoolError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from bench.bed import Bed

SECTIONS = (
    "latency",
    "files",
    "throughput",
    "cpu",
    "fresh",
    "breakdown",
    "dependencies",
    "imports",
    "output",
    "profiles",
    "overload",
    "readers",
    "sessions",
    "soak",
)
NAMED = ("crowd", "peers")
MEASURES = {
    "latency": latency.measure,
    "files": files.measure,
    "throughput": throughput.measure_recycled,
    "cpu": processor.measure,
    "fresh": throughput.measure_fresh,
    "dependencies": dependencies.measure,
    "imports": imports.measure,
    "output": output.measure,
    "profiles": profiles.measure,
    "overload": overload.measure,
    "readers": readers.measure,
    "sessions": sessions.measure,
    "crowd": crowd.measure,
    "peers": peers.measure,
}
ALONE = {"curves": curves.main, "machines": machines.main}
SOAK_RUNS = 1000
SECTION_TIMEOUT_S, SOAK_RUN_S, CROWD_S, PEERS_S = 240.0, 0.25, 600.0, 300.0
FAILURES = (BenchError, SettingsError, PoolError)


def main() -> int:
    """Measure and print; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("section", nargs="*", help=f"some of: {', '.join((*SECTIONS, *NAMED))}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to a file")
    parser.add_argument(
        "--runs",
        type=int,
        default=int(os.environ.get("BENCH_SOAK_RUNS") or SOAK_RUNS),
        help=f"of the soak; by default BENCH_SOAK_RUNS, else {SOAK_RUNS}",
    )
    parser.add_argument("--seed", type=int, help="of the soak, to repeat its mix of runs")
    parser.add_argument("--strict", action="store_true", help="fail when a bound is missed")
    parser.add_argument("--trace", type=Path, metavar="FILE", help="another trace for tuner")
    parser.add_argument(
        "--redraw", action="store_true", help="curves, machines: draw the last figures"
    )
    options = parser.parse_args()
    if options.section == ["tuner"]:
        return tuner.main(options.trace, options.seed or 1)
    alone = ALONE.get(" ".join(options.section))
    if alone is None and (unknown := set(options.section) - {*SECTIONS, *NAMED}):
        there = ", ".join((*SECTIONS, *NAMED))
        parser.error(f"no such section: {', '.join(unknown)}; there are {there}")
    if options.seed is None and alone is None:
        options.seed = random.randrange(10_000)
    work = partial(measure, options)
    if alone is not None:
        work = partial(alone, options.seed or 1, redraw=options.redraw)
    try:
        return uvloop.run(until_stopped(work))
    except (*FAILURES, TimeoutError, ExceptionGroup) as error:
        print(f"bench: {_sentence(error)}", file=sys.stderr)
        return 1


async def until_stopped(work: Callable[[], Awaitable[int]]) -> int:
    """Measure; SIGTERM cancels that, so that server and containers do not outlive the bench."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        return await work()
    except asyncio.CancelledError:
        print("bench: stopped", file=sys.stderr)
        return 128 + signal.SIGTERM


async def measure(options: argparse.Namespace) -> int:
    """Measure the chosen sections."""
    chosen = options.section or SECTIONS
    began = time.monotonic()
    sections: list[Section] = []
    sound = True

    def done(*new: Section) -> None:
        for section in new:
            section.show()
        sections.extend(new)

    async with test_bed() as bed:
        about = await facts(bed)
        for name, fact in about.items():
            print(f"{name + ':':14} {fact}", flush=True)
        for name in (*SECTIONS, *NAMED):
            if name not in chosen:
                continue
            try:
                async with asyncio.timeout(_limit_s(name, options.runs)):
                    if name == "soak":
                        section, clean = await soak(bed, options.runs, options.seed)
                        done(section)
                        sound = sound and clean
                    else:
                        done(*await _measure(name, bed))
            except (*FAILURES, TimeoutError, ExceptionGroup) as error:
                print(f"\nbench: no figures for {name}: {_sentence(error)}", file=sys.stderr)
                sound = False
    about["load average at the end"] = load_average()
    print(f"\nload average at the end: {load_average()}; took {time.monotonic() - began:.0f} s")
    if options.json:
        write_json(options.json, about, sections)
    missed = [one for section in sections for one in section.wanted if not one.met]
    return int(not sound or (options.strict and bool(missed)))


async def _measure(name: str, bed: Bed) -> list[Section]:
    if name == "breakdown":
        return await breakdown.measure(bed)
    return [await MEASURES[name](bed)]


def _limit_s(name: str, runs: int) -> float:
    """Return how long a section may take before the engine must be taken to hang."""
    more_s = {"soak": runs * SOAK_RUN_S, "crowd": CROWD_S, "peers": PEERS_S}
    return SECTION_TIMEOUT_S + more_s.get(name, 0.0)


def _sentence(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}".removesuffix(": ")


if __name__ == "__main__":
    sys.exit(main())
