"""The isolation canary: what it finds it tells, and its container is gone afterwards."""

from __future__ import annotations

import asyncio
import logging
import math
from typing import TYPE_CHECKING, Any, cast

import pytest
from prometheus_client import CollectorRegistry

from pgexec.backend.laboratory import Laboratory
from pgexec.doctor.canary import FIRST_AFTER_S, Canary
from pgexec.doctor.check import Check
from pgexec.doctor.findings import Observation, fail, ok, warn
from pgexec.doctor.sandbox import ProbeError, Sandbox
from pgexec.settings import Settings
from pgexec.telemetry.canary_metrics import CanaryMetrics
from pool.engine.spec import ContainerSpec
from pool.errors import ContainerLost, EngineUnavailable
from tests.unit.fake_engine import FakeEngine
from tests.unit.rig import quiet

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pool.engine.docker import DockerEngine

    Look = Callable[[Laboratory], Awaitable[Observation]]

pytestmark = pytest.mark.clock

PIDS = {"profile": "python", "check": "pids_limit"}


class Watched:
    """A canary on a fake engine, whose only check does as it is told."""

    def __init__(self, look: Look, *, interval_s: float = 900, starts: bool = False) -> None:
        self.engine = FakeEngine()
        self.away = False
        self.rounds = 0
        self._registry = CollectorRegistry()
        self._look = look
        self.canary = Canary(
            self._laboratory,
            CanaryMetrics(self._registry),
            interval_s,
            ("python",),
            of_a_container=(),
            of_more_containers=(Check("pids limit", self._count, starts=starts),),
        )

    async def _laboratory(self, language: str) -> Laboratory:
        if self.away:
            raise EngineUnavailable("the engine does not answer")
        engine = cast("DockerEngine", self.engine)
        return Laboratory(engine, Settings.of(), ContainerSpec("fake", prepared=True), dict)

    async def _count(self, laboratory: Laboratory) -> Observation:
        self.rounds += 1
        return await self._look(laboratory)

    def value(self, name: str, **labels: str) -> float:
        value = self._registry.get_sample_value(f"pgexec_canary_{name}", labels)
        assert value is not None
        return value


def always(observation: Observation) -> Look:
    async def look(laboratory: Laboratory) -> Observation:
        return observation

    return look


def raises(error: Exception) -> Look:
    async def look(laboratory: Laboratory) -> Observation:
        raise error

    return look


@pytest.fixture(autouse=True)
def sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody look around in a fake container, which has nothing to see."""

    async def of(laboratory: Laboratory, container: Any) -> Sandbox:
        return cast("Sandbox", None)

    monkeypatch.setattr(Sandbox, "of", of)


async def test_before_the_first_round_nothing_is_known_and_nothing_has_failed() -> None:
    watched = Watched(always(ok("held")))
    assert math.isnan(watched.value("ok", **PIDS))
    assert watched.value("failures_total", **PIDS) == 0
    assert watched.value("last_run_timestamp_seconds") == 0
    assert watched.value("interval_seconds") == 900


@pytest.mark.parametrize("observation", [ok("held"), warn("held, but", "look")])
async def test_what_holds_is_one(observation: Observation) -> None:
    watched = Watched(always(observation))
    await watched.canary.probe()
    assert watched.value("ok", **PIDS) == 1
    assert watched.value("failures_total", **PIDS) == 0
    assert watched.value("last_run_timestamp_seconds") > 0
    assert watched.engine.containers == {}
    assert watched.engine.most == 1


@pytest.mark.parametrize(
    "look", [always(fail("128 processes started", "enable it")), raises(ProbeError("it died"))]
)
async def test_what_does_not_hold_is_zero_and_an_error(
    look: Look, caplog: pytest.LogCaptureFixture
) -> None:
    watched = Watched(look)
    await watched.canary.probe()
    await watched.canary.probe()
    assert watched.value("ok", **PIDS) == 0
    assert watched.value("failures_total", **PIDS) == 2
    assert watched.value("last_run_timestamp_seconds") > 0
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2
    assert "pids limit" in caplog.text
    assert "remedy" in caplog.text


async def test_what_holds_again_is_told(caplog: pytest.LogCaptureFixture) -> None:
    observations = [fail("128 processes started", "enable it"), ok("64 of 64"), ok("64 of 64")]

    async def look(laboratory: Laboratory) -> Observation:
        return observations.pop(0)

    watched = Watched(look)
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            await watched.canary.probe()
    assert watched.value("ok", **PIDS) == 1
    assert caplog.text.count("holds again") == 1


@pytest.mark.parametrize("error", [ContainerLost("it ended"), EngineUnavailable("it is away")])
async def test_what_cannot_be_tried_is_neither_well_nor_a_failure(error: Exception) -> None:
    errors = [None, error]

    async def look(laboratory: Laboratory) -> Observation:
        if (raised := errors.pop(0)) is not None:
            raise raised
        return ok("held")

    watched = Watched(look)
    await watched.canary.probe()
    before = watched.value("last_run_timestamp_seconds")
    await watched.canary.probe()
    assert math.isnan(watched.value("ok", **PIDS))
    assert watched.value("failures_total", **PIDS) == 0
    assert watched.value("last_run_timestamp_seconds") == before


async def test_a_check_that_takes_too_long_tells_nothing() -> None:
    async def look(laboratory: Laboratory) -> Observation:
        await asyncio.Event().wait()
        raise AssertionError

    watched = Watched(look)
    await watched.canary.probe()
    assert math.isnan(watched.value("ok", **PIDS))


async def test_a_check_that_starts_a_container_has_the_time_of_a_start_on_top() -> None:
    async def look(laboratory: Laboratory) -> Observation:
        await asyncio.sleep(15 + laboratory.settings.start_timeout_s / 2)
        return ok("held")

    watched = Watched(look, starts=True)
    await watched.canary.probe()
    assert watched.value("ok", **PIDS) == 1


async def test_without_an_engine_nothing_is_known_until_it_is_back() -> None:
    watched = Watched(always(ok("held")))
    await watched.canary.probe()
    watched.away = True
    await watched.canary.probe()
    assert math.isnan(watched.value("ok", **PIDS))
    watched.away = False
    await watched.canary.probe()
    assert watched.value("ok", **PIDS) == 1


async def test_each_profile_is_probed_for_itself() -> None:
    observations = {"python": ok("held"), "datascience": fail("128 processes started", "enable it")}
    asked: list[str] = []

    async def look(laboratory: Laboratory) -> Observation:
        return observations[asked[-1]]

    watched = Watched(look)

    async def laboratory(language: str) -> Laboratory:
        asked.append(language)
        return await watched._laboratory(language)

    registry = CollectorRegistry()
    checks = (Check("pids limit", look),)
    canary = Canary(
        laboratory,
        CanaryMetrics(registry),
        900,
        tuple(observations),
        of_a_container=(),
        of_more_containers=checks,
    )
    await canary.probe()
    found = {
        name: registry.get_sample_value("pgexec_canary_ok", PIDS | {"profile": name})
        for name in observations
    }
    assert found == {"python": 1, "datascience": 0}


async def test_it_probes_soon_and_then_at_its_interval_whatever_goes_wrong() -> None:
    watched = Watched(raises(ZeroDivisionError()))
    task = asyncio.create_task(watched.canary.attend())
    await asyncio.sleep(FIRST_AFTER_S - 1)
    assert watched.rounds == 0
    await asyncio.sleep(2)
    assert watched.rounds == 1
    await asyncio.sleep(2 * 900)
    assert watched.rounds == 3
    task.cancel()
    await asyncio.wait([task])


async def test_an_interval_of_zero_is_never() -> None:
    watched = Watched(always(ok("held")), interval_s=0)
    await watched.canary.attend()
    assert watched.rounds == 0


async def test_a_round_that_is_cancelled_leaves_no_container() -> None:
    async def look(laboratory: Laboratory) -> Observation:
        async with laboratory.container():
            await asyncio.Event().wait()
        raise AssertionError

    watched = Watched(look)
    task = asyncio.create_task(watched.canary.attend())
    await asyncio.sleep(FIRST_AFTER_S + 1)
    assert len(watched.engine.containers) == 1
    task.cancel()
    await asyncio.wait([task])
    await quiet()
    assert watched.engine.containers == {}
