"""A closed loop: so many workers, each starting its next piece of work when one has ended."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING

from bench.client import Connection, post_run
from bench.errors import AnswerError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    Work = Callable[[], Awaitable[object]]

PRINT = post_run("print(1)")
_PRINTED = b'"data":"1\\n"'


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


async def ask_to_print(connection: Connection) -> bytes:
    """Run `print(1)` by HTTP; raise `AnswerError` unless 1 comes back."""
    status, body = await connection.ask(PRINT)
    if status != 200 or _PRINTED not in body:
        raise AnswerError(f"HTTP {status}: {body[:300]!r}")
    return body


async def http_rate(port: int, clients: int, seconds: float, *, warmup_s: float) -> float:
    """Return the `rate` of `print(1)` by HTTP, each client on a connection that it keeps."""
    connections = [await Connection.open(port) for _ in range(clients)]
    try:
        return await rate(
            [partial(ask_to_print, one) for one in connections], seconds, warmup_s=warmup_s
        )
    finally:
        for connection in connections:
            connection.close()
