"""A blocked event loop is noticed while it is blocked."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from pgexec.process.loop import BEAT_S, watching

if TYPE_CHECKING:
    import pytest


def hold_up_the_loop(caplog: pytest.LogCaptureFixture) -> None:
    deadline = time.monotonic() + 20
    while not told(caplog) and time.monotonic() < deadline:
        time.sleep(0.01)


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if "event loop" in record.message]


async def test_what_blocks_the_loop_is_named_once_and_so_is_its_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with watching(asyncio.get_running_loop(), blocked_s=0.3):
        hold_up_the_loop(caplog)
        assert told(caplog) == ["the event loop is blocked"]
        fields = caplog.records[-1].fields  # type: ignore[attr-defined]
        assert any("hold_up_the_loop" in call for call in fields["in"])
        async with asyncio.timeout(20):
            while len(told(caplog)) < 2:
                await asyncio.sleep(BEAT_S)
    assert told(caplog) == ["the event loop is blocked", "the event loop goes on"]


async def test_a_loop_that_goes_round_is_nothing_to_tell_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with watching(asyncio.get_running_loop(), blocked_s=60):
        await asyncio.sleep(3 * BEAT_S)
    assert told(caplog) == []
