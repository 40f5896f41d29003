"""An engine of our own to break, servers on it, and the table at the end."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from pool.engine.address import find_engine
from tests.chaos.bed import Bed
from tests.chaos.report import Report
from tests.conftest import available_images
from tests.private_engine import PrivateEngine, unusable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MakeBed = Callable[..., contextlib.AbstractAsyncContextManager[Bed]]
LONG_S = 1800
"""Outer bound of one test of the long form."""
REPORT = pytest.StashKey[Report]()
SOAK_MINUTES = float(os.environ.get("PGEXEC_CHAOS_SOAK_MINUTES") or 0)
"""How long to go on with faults at random; any at all makes each fault as long as it can be."""


def pytest_configure(config: pytest.Config) -> None:
    config.stash[REPORT] = Report()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run all on one loop: servers, engine and clients are shared."""
    for item in items:
        if "tests/chaos" in item.path.as_posix():
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)
            if SOAK_MINUTES:
                item.add_marker(pytest.mark.timeout(SOAK_MINUTES * 60 + LONG_S))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    report = terminalreporter.config.stash.get(REPORT, None)
    if report is not None and (lines := report.lines()):
        terminalreporter.section("chaos")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def report(pytestconfig: pytest.Config) -> Report:
    return pytestconfig.stash.setdefault(REPORT, Report())


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def private_engine(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[PrivateEngine]:
    """Start an engine of our own, with the first test image on it."""
    if reason := unusable():
        pytest.skip(reason)
    engine = PrivateEngine(tmp_path_factory.mktemp("engine") / "own")
    try:
        engine.create()
        engine.start()
        await engine.answers()
        shared = find_engine("").removeprefix("unix://")
        await engine.copy_image(shared, available_images()[0])
        yield engine
    finally:
        engine.close()


@pytest.fixture(scope="session")
def make_bed(
    private_engine: PrivateEngine, report: Report, tmp_path_factory: pytest.TempPathFactory
) -> MakeBed:
    """Return what makes a server with settings of its own and, in the end, sees nothing left."""

    @contextlib.asynccontextmanager
    async def make(
        environment: dict[str, str] | None = None, **settings: object
    ) -> AsyncIterator[Bed]:
        directory = tmp_path_factory.mktemp("server")
        bed = Bed(private_engine, report, directory, available_images()[0], **settings)
        bed.server.environment |= environment or {}
        bed.long = SOAK_MINUTES > 0
        try:
            await bed.open()
            yield bed
        finally:
            await bed.close()

    return make


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def bed(make_bed: MakeBed) -> AsyncIterator[Bed]:
    """Have one server for all faults of a module: it is never restarted."""
    async with make_bed() as bed:
        yield bed
