"""The sampler of the event loop's lag."""

from __future__ import annotations

import asyncio
import time

from pgexec.process.loop import sample_lag


async def test_a_loop_that_is_blocked_is_seen_to_be_late() -> None:
    lags: list[float] = []
    sampled = asyncio.Event()

    def observe(seconds: float) -> None:
        lags.append(seconds)
        sampled.set()

    task = asyncio.create_task(sample_lag(observe))
    await asyncio.sleep(0)
    time.sleep(0.5)  # noqa: ASYNC251  # what is to be seen
    async with asyncio.timeout(20):
        await sampled.wait()
    task.cancel()
    assert lags[0] >= 0.2
