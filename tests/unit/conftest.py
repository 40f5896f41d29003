"""Tests marked `clock` run on a loop whose time passes only when nothing else is to do."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, settings

from pgexec.advise.clock import ClockLoop

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import pytest

# On a busy machine an example may take any time; that must not decide.
UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("untimed", UNTIMED)
settings.register_profile("check", UNTIMED, max_examples=10)
settings.load_profile("untimed")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "clock: run on a ClockLoop")
    config.addinivalue_line("markers", "slow: takes seconds, `make check` leaves it out")


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    if item.get_closest_marker("clock"):
        return {"clock": ClockLoop}
    return {"asyncio": asyncio.new_event_loop}
