"""`pgexec doctor`: check everything that the server depends on, with one finding for each check."""

from __future__ import annotations

import asyncio
import contextlib
import time
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from pgexec.backend.laboratory import Laboratory
from pgexec.backend.spec import container_labels, prepare_spec
from pgexec.doctor import isolation, machine, trials
from pgexec.doctor.check import TIMEOUT_S, Check
from pgexec.doctor.facts import Info, Version
from pgexec.doctor.findings import Finding, Observation, fail, ok, skip, warn
from pgexec.doctor.machine import EngineReport, Machine
from pgexec.doctor.sandbox import Sandbox
from pool.engine.address import find_engine
from pool.engine.docker import DockerEngine
from pool.engine.image import PREPARE_TIMEOUT_S
from pool.engine.ownership import instance_name
from pool.errors import EngineUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from pgexec.settings import Settings
    from pool.engine.spec import ContainerSpec

    Stage = Awaitable[tuple[Observation, "T | None"]]

T = TypeVar("T")

STREAMS = 4
ANSWER_S = 7.5
"""So long an engine may take to tell of itself; where containers may be slow to start, longer."""


OF_THE_MACHINE: Sequence[Check[Machine]] = (
    Check("settings", machine.settings),
    Check("exposure", machine.exposure),
    Check("log", machine.log_disk),
    Check("CA bundle", machine.ca_bundle),
    Check("canary", machine.canary),
)
OF_THE_ENGINE: Sequence[Check[EngineReport]] = (
    Check("libnetwork", machine.libnetwork),
    Check("runc", machine.runc),
    Check("containerd", machine.containerd),
    Check("kernel", machine.kernel),
    Check("cgroup", machine.cgroup),
    Check("memory", machine.memory),
    Check("socket buffers", machine.sockets),
    Check("terminals", machine.terminals),
    Check("neighbours", machine.neighbours),
)
OF_A_CONTAINER: Sequence[Check[Sandbox]] = (
    Check("seccomp", trials.seccomp),
    Check("confinement", trials.confinement),
    Check("user namespace", trials.user_namespace),
    Check("sysctls", trials.sysctls),
    Check("privileges", trials.privileges),
    Check("runner", trials.separation),
    Check("CPU quota", trials.cpu),
    *isolation.OF_A_CONTAINER,
    Check("trust", trials.trust),
    Check("recycling", trials.recycling),
    Check("internet", trials.internet),
)


async def examine(
    settings: Settings, warnings: Sequence[str], tell: Callable[[Finding], None]
) -> list[Finding]:
    """Make every check, call `tell` with each finding, and return all findings.

    It leaves no container behind, even after an error. `warnings` are those of the settings.
    """
    examination = _Examination(settings, warnings, tell)
    await examination.run()
    return examination.findings


class _Examination:
    def __init__(
        self, settings: Settings, warnings: Sequence[str], tell: Callable[[Finding], None]
    ) -> None:
        self.findings: list[Finding] = []
        self._settings = settings
        self._start_s = settings.start_timeout_s
        self._machine = Machine(settings, warnings, find_engine(settings.docker_host))
        self._tell = tell

    async def run(self) -> None:
        """Make every check; skip those whose subject is missing."""
        await self._make(OF_THE_MACHINE, self._machine)
        async with _connected(self._machine.url) as engine:
            answers_s = TIMEOUT_S + self._start_s
            report = await self._stage("engine", self._report(engine), answers_s)
            await self._make(OF_THE_ENGINE, report)
            # As much time as the server gives it. With less, the half-made image would be thrown
            # away each time, and a slow machine would never get one.
            preparing = self._spec(engine, report)
            spec = await self._stage("image", preparing, PREPARE_TIMEOUT_S + TIMEOUT_S)
            labels = partial(container_labels, instance_name(), self._settings)
            laboratory = Laboratory(engine, self._settings, spec, labels) if spec else None
            async with contextlib.AsyncExitStack() as stack:
                start = self._sandbox(laboratory, stack)
                sandbox = await self._stage("container", start, self._start_s + TIMEOUT_S)
                await self._make(OF_A_CONTAINER, sandbox)
            await self._make(isolation.OF_MORE_CONTAINERS, laboratory)

    async def _make(self, checks: Sequence[Check[T]], subject: T | None) -> None:
        for check in checks:
            if subject is None:
                observation = _nothing_there()
            else:
                limit_s = check.limit_s(self._start_s)
                observation, _ = await _attempt(_alone(check.look(subject)), limit_s)
            self._note(check.name, observation)

    async def _stage(self, name: str, look: Stage[T], timeout_s: float) -> T | None:
        """Make a check, and return the subject that later checks need, or `None`."""
        observation, subject = await _attempt(look, timeout_s)
        self._note(name, observation)
        return subject

    def _note(self, name: str, observation: Observation) -> None:
        finding = observation.of(name)
        self.findings.append(finding)
        self._tell(finding)

    async def _report(self, engine: DockerEngine) -> tuple[Observation, EngineReport | None]:
        stuck = f"{engine.url} takes connections, but does not answer"
        # On a slow machine Podman takes long for both: it starts programs that look for packages.
        patience_s = max(ANSWER_S, self._start_s / 4)
        try:
            async with asyncio.timeout(patience_s):
                version = await engine.version()
                # Asks for locks that a request for the version does without.
                stuck = f"{version.get('Version')} tells its version, but then answers nothing"
                info = await engine.info()
        except TimeoutError:
            finding = f"{stuck} within {patience_s:g} s"
            remedy = (
                "if it is stuck, see its log, and restart it; if it is slow, raise "
                "PGEXEC_START_TIMEOUT_S"
            )
            return fail(finding, remedy), None
        except EngineUnavailable as error:
            remedy = (
                "start Docker or Podman (make setup does), set PGEXEC_DOCKER_HOST, or, where the "
                "engine is for a group, join it (usermod -aG docker NAME) and log in again"
            )
            return fail(str(error), remedy), None
        report = EngineReport(
            self._settings, engine.url, Version.model_validate(version), Info.model_validate(info)
        )
        return await machine.engine(report), report

    async def _spec(
        self, engine: DockerEngine, report: EngineReport | None
    ) -> tuple[Observation, ContainerSpec | None]:
        if report is None:
            return _nothing_there(), None
        name = self._settings.image
        if not await engine.image_id(name):
            return fail(f"{name} is not there", f"docker pull {name}, or set PGEXEC_IMAGE"), None
        if sentence := await engine.foreign(name):
            finding, _, remedy = sentence.partition(": ")
            return fail(finding, f"{remedy}, or set PGEXEC_IMAGE"), None
        spec = await prepare_spec(engine, self._settings)
        if not spec.prepared:
            remedy = "see that the engine can commit containers, and has room for images"
            return warn(
                f"{name} serves as it is, which makes starts and imports slow", remedy
            ), spec
        return ok(f"{name}, prepared as {spec.image}"), spec

    async def _sandbox(
        self, laboratory: Laboratory | None, stack: contextlib.AsyncExitStack
    ) -> tuple[Observation, Sandbox | None]:
        if laboratory is None:
            return _nothing_there(), None
        started = time.monotonic()
        container = await stack.enter_async_context(laboratory.container())
        took_ms = (time.monotonic() - started) * 1000
        sandbox = await Sandbox.of(laboratory, container)
        python = f"{container.runner.get('implementation')} {container.runner.get('python')}"
        return ok(f"{python}, ready in {took_ms:.0f} ms"), sandbox


@contextlib.asynccontextmanager
async def _connected(url: str) -> AsyncIterator[DockerEngine]:
    engine = DockerEngine(url, streams=STREAMS)
    try:
        yield engine
    finally:
        await engine.close()


async def _alone(look: Awaitable[Observation]) -> tuple[Observation, None]:
    return await look, None


async def _attempt(look: Stage[T], timeout_s: float) -> tuple[Observation, T | None]:
    """Await a check. If it raises, or takes longer than `timeout_s`, it has failed."""
    try:
        async with asyncio.timeout(timeout_s):
            return await look
    except TimeoutError:
        return fail(f"no result within {timeout_s:g} s", "see the engine's log"), None
    except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
        return fail(str(error) or type(error).__name__, "see the engine's log"), None


def _nothing_there() -> Observation:
    return skip("what it looks at is not there")
