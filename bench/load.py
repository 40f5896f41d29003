"""A closed loop: so many workers, each starting its next piece of work when one has ended.

And an open one: work that comes when it comes, whatever has ended.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from bench.client import ClientConnection, post_run
from bench.errors import AnswerError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    Work = Callable[[], Awaitable[object]]

PRINT = post_run("print(1)")
_PRINTED = b'"data":"1\\n"'
_OPEN_AT_FIRST = 32


async def rate(workers: Sequence[Work], seconds: float, *, warmup_s: float = 0.0) -> float:
    """Return how many pieces of work all workers together finish per second.

    Each worker's own rate is taken up to the end of its last piece, so that pieces as long
    as the measurement are not cut off. What ends during the warm-up does not count.
    """

    async def loop(work: Work) -> float:
        begin = time.perf_counter() + warmup_s
        while time.perf_counter() < begin:
            await work()
        done, started = 0, time.perf_counter()
        while (now := time.perf_counter()) - started < seconds:
            await work()
            done += 1
        now = time.perf_counter()
        return done / (now - started)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(loop(work)) for work in workers]
    return sum(task.result() for task in tasks)


async def ask_to_print(connection: ClientConnection) -> bytes:
    """Run `print(1)` by HTTP; raise `AnswerError` unless 1 comes back."""
    status, body = await connection.ask(PRINT)
    if status != 200 or _PRINTED not in body:
        raise AnswerError(f"HTTP {status}: {body[:300]!r}")
    return body


async def http_rate(port: int, clients: int, seconds: float, *, warmup_s: float) -> float:
    """Return the `rate` of `print(1)` by HTTP, each client on a connection that it keeps."""
    connections = [await ClientConnection.open(port) for _ in range(clients)]
    try:
        return await rate(
            [partial(ask_to_print, one) for one in connections], seconds, warmup_s=warmup_s
        )
    finally:
        for connection in connections:
            connection.close()


@dataclass(slots=True)
class Arrived:
    """What became of the requests of an open loop; times in seconds."""

    latencies_s: list[float] = field(default_factory=list)
    """Of those that were answered, from sending to the whole answer."""
    late_s: list[float] = field(default_factory=list)
    """How much later than due each was sent: what the client itself had to wait."""
    refused: int = 0
    took_s: float = 0.0
    """Up to the last answer."""


def arrivals(per_s: float, count: int, seed: object) -> list[float]:
    """Return when so many requests come, in seconds: a Poisson process, given its count."""
    # Which is independent uniform times, in order: the rate is exact, the times are by chance.
    chance = random.Random(f"{seed}/{per_s:g}")
    return sorted(chance.uniform(0, count / per_s) for _ in range(count))


async def open_loop(port: int, request: bytes, due_s: Sequence[float]) -> Arrived:
    """Send a request at each of these times, on connections that are kept; wait for all.

    A 503 counts as refused; any other answer than that of `PRINT` raises `AnswerError`.
    """
    found = Arrived()
    free = [await ClientConnection.open(port) for _ in range(min(len(due_s), _OPEN_AT_FIRST))]
    used = [*free]
    began = time.perf_counter()

    async def one(due: float) -> None:
        await asyncio.sleep(due - (time.perf_counter() - began))
        if free:
            connection = free.pop()
        else:
            connection = await ClientConnection.open(port)
            used.append(connection)
        sent = time.perf_counter()
        status, body = await connection.ask(request)
        ended = time.perf_counter()
        free.append(connection)
        found.late_s.append(max(0.0, sent - began - due))
        if status == 503:
            found.refused += 1
        elif status != 200 or _PRINTED not in body:
            raise AnswerError(f"HTTP {status}: {body[:300]!r}")
        else:
            found.latencies_s.append(ended - sent)

    try:
        async with asyncio.TaskGroup() as group:
            for due in due_s:
                group.create_task(one(due))
    finally:
        for connection in used:
            connection.close()
    found.took_s = time.perf_counter() - began
    return found
