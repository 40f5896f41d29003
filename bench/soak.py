"""Mixed runs, some of them hostile: each is answered once with its own answer, nothing leaks."""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench.client import ClientConnection, post_run
from bench.errors import BrokenConnectionError
from bench.report import Section, median, percentile
from bench.server import serving
from bench.soak_cases import HANG_UP, NONCE, choose

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.bed import Bed
    from bench.server import Server, Usage
    from bench.soak_cases import Case

CLIENTS = 8
ANSWER_TIMEOUT_S = 60.0
HANG_UP_AFTER_S = 0.1
SAMPLE_EVERY_S = 0.25
GONE_TIMEOUT_S, LOOK_EVERY_S = 10.0, 0.2
MAX_GROWTH = 1.1
SHOWN = 5
STARTS = 'pgexec_container_starts_total{profile="python"}'
_NONCES = re.compile(rb"nonce-\d+-[0-9a-f]{16}")


@dataclass(slots=True)
class Tally:
    """What came of all runs so far."""

    answered: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    hung_up: int = 0
    wrong: list[str] = field(default_factory=list)
    stray_bytes: int = 0
    times_s: list[float] = field(default_factory=list)
    usage: list[Usage] = field(default_factory=list)


async def soak(bed: Bed, runs: int, seed: int) -> tuple[Section, bool]:
    """Send so many runs; return what came of them, and whether all was as it must be."""
    tally = Tally()
    async with serving() as server:
        began = time.perf_counter()
        sampler = asyncio.create_task(_sample(server, tally))
        numbers = iter(range(runs))
        async with asyncio.TaskGroup() as group:
            for worker in range(CLIENTS):
                chance = random.Random(f"{seed}/{worker}")
                group.create_task(_client(server, numbers, chance, tally))
        took_s = time.perf_counter() - began
        sampler.cancel()
        states = await server.settled(ANSWER_TIMEOUT_S)
        listed = await bed.pooled_by(server.pid)
        metrics = await server.metrics()
    left = await _left_over(bed, server)
    counted = int(metrics['pgexec_requests_total{path="/run",status="200"}'])
    problems = [*tally.wrong]
    if counted != tally.answered.total():
        problems.append(f"the server counts {counted} answers, not {tally.answered.total()}")
    if tally.stray_bytes:
        problems.append(f"{tally.stray_bytes} bytes came that nobody had asked for")
    if len(listed) != sum(states.values()):
        problems.append(f"the engine lists {len(listed)} containers, the pool {states}")
    if left:
        problems.append(f"{len(left)} containers are left after the server's end")
    title = f"Soak: {runs} mixed runs, {CLIENTS} clients, seed {seed}"
    return _section(title, tally, took_s, problems, metrics), not problems


async def _client(
    server: Server, numbers: Iterator[int], chance: random.Random, tally: Tally
) -> None:
    connection = await ClientConnection.open(server.port)
    for number in numbers:
        case = choose(chance)
        nonce = f"nonce-{number}-{chance.getrandbits(64):016x}"
        fields = {name: nonce if value == NONCE else value for name, value in case.fields.items()}
        request = post_run(case.code.replace(NONCE, nonce), **fields)
        if case is HANG_UP:
            connection.send(request)
            await asyncio.sleep(chance.random() * HANG_UP_AFTER_S)
            tally.hung_up += 1
        else:
            started = time.perf_counter()
            try:
                async with asyncio.timeout(ANSWER_TIMEOUT_S):
                    status, body = await connection.ask(request)
            except (BrokenConnectionError, TimeoutError) as error:
                tally.wrong.append(f"{case.name}: no answer: {error!r}")
            else:
                tally.times_s.append(time.perf_counter() - started)
                _judge(case, nonce, status, body, tally)
                continue
        tally.stray_bytes += connection.stray_bytes
        connection.close()
        connection = await ClientConnection.open(server.port)
    await asyncio.sleep(0.2)  # for an answer too many
    tally.stray_bytes += connection.stray_bytes
    connection.close()


def _judge(case: Case, nonce: str, status: int, body: bytes, tally: Tally) -> None:
    if status != 200:
        tally.refused += 1
        tally.wrong.append(f"{case.name}: HTTP {status}: {body[:200]!r}")
        return
    answer = json.loads(body)
    tally.answered[answer["status"]] += 1
    found = {one.decode() for one in _NONCES.findall(body)}
    if found != {nonce}:
        tally.wrong.append(f"{case.name}: asked for {nonce}, got {sorted(found)}: {body[:300]!r}")
    elif answer["status"] not in case.statuses:
        tally.wrong.append(f"{case.name}: status {answer['status']}: {body[:300]!r}")
    elif case.exit_code is not None and answer["exit_code"] != case.exit_code:
        tally.wrong.append(f"{case.name}: exit code {answer['exit_code']}: {body[:300]!r}")


async def _sample(server: Server, tally: Tally) -> None:
    while True:
        tally.usage.append(server.usage())
        await asyncio.sleep(SAMPLE_EVERY_S)


async def _left_over(bed: Bed, server: Server) -> list[str]:
    """List the containers of a server that has ended, once the engine had time to remove them."""
    for _ in range(round(GONE_TIMEOUT_S / LOOK_EVERY_S)):
        if not await bed.owned_by(server.pid):
            break
        await asyncio.sleep(LOOK_EVERY_S)
    return await bed.owned_by(server.pid)


def _section(
    title: str, tally: Tally, took_s: float, problems: list[str], metrics: dict[str, float]
) -> Section:
    section = Section(title)
    quarter = max(1, len(tally.usage) // 4)
    first, last = tally.usage[:quarter], tally.usage[-quarter:]
    for what, begin, end in (
        ("server RSS, MiB", [one.rss_mib for one in first], [one.rss_mib for one in last]),
        (
            "server descriptors",
            [float(one.descriptors) for one in first],
            [float(one.descriptors) for one in last],
        ),
    ):
        section.row(what, first_quarter=median(begin), last_quarter=median(end))
        growth = median(end) / median(begin)
        section.want_at_most(f"{what}, last quarter / first", growth, MAX_GROWTH)
    ended = ", ".join(f"{many} {status}" for status, many in sorted(tally.answered.items()))
    times = tally.times_s or [0.0]
    section.note(
        f"{tally.answered.total()} answers in {took_s:.1f} s"
        f" ({tally.answered.total() / took_s:.0f}/s): {ended}; {tally.hung_up} hang-ups"
    )
    section.note(
        f"answer p50 {median(times) * 1000:.1f} ms, p99 {percentile(times, 99) * 1000:.0f} ms,"
        f" slowest {max(times) * 1000:.0f} ms"
    )
    section.note(
        f"containers started: {metrics[STARTS]:.0f}, destroyed: "
        + ", ".join(
            f"{value:.0f} {name.split(chr(34))[3]}"
            for name, value in metrics.items()
            if name.startswith("pgexec_container_destroyed_total{")
        )
    )
    section.note(f"wrong: {len(problems)}" if problems else "wrong: none, leaked: none")
    for problem in problems[:SHOWN]:
        section.note(f"WRONG: {problem}")
    return section
