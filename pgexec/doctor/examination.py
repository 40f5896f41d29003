"""`pgexec doctor`: look at everything that the server stands on, one finding for each check."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from pgexec.backend import prepare_spec
from pgexec.doctor import machine, trials
from pgexec.doctor.facts import Info, Inside, Version
from pgexec.doctor.findings import Finding, Outcome, fail, ok, skip, warn
from pgexec.doctor.machine import EngineReport, Machine
from pgexec.doctor.sandbox import Laboratory, Sandbox, ask
from pool.docker_engine import DockerEngine, find_engine
from pool.spec import SYSCTLS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from pgexec.settings import Settings
    from pool.spec import ContainerSpec

T = TypeVar("T")

TIMEOUT_S = 10.0
PREPARE_TIMEOUT_S = 90.0
"""For the image alone, and only the first time: preparing it takes 4 to 60 seconds."""
OLDEST_PYTHON = (3, 8)
STREAMS = 4


@dataclass(frozen=True, slots=True)
class Check(Generic[T]):
    """A name and what looks into it; `T` is what it looks at."""

    name: str
    look: Callable[[T], Awaitable[Outcome]]
    timeout_s: float = TIMEOUT_S


OF_THE_MACHINE: Sequence[Check[Machine]] = (
    Check("settings", machine.settings),
    Check("exposure", machine.exposure),
    Check("log", machine.log_disk),
    Check("CA bundle", machine.ca_bundle),
)
OF_THE_ENGINE: Sequence[Check[EngineReport]] = (
    Check("runc", machine.runc),
    Check("containerd", machine.containerd),
    Check("kernel", machine.kernel),
    Check("cgroup", machine.cgroup),
)
OF_A_CONTAINER: Sequence[Check[Sandbox]] = (
    Check("seccomp", trials.seccomp),
    Check("confinement", trials.confinement),
    Check("user namespace", trials.user_namespace),
    Check("sysctls", trials.sysctls),
    Check("read-only root", trials.read_only_root),
    Check("privileges", trials.privileges),
    Check("runner", trials.separation),
    Check("CPU quota", trials.cpu),
    Check("network guard", trials.guard),
    Check("internet", trials.internet),
    Check("trust", trials.trust),
    Check("recycling", trials.recycling),
)
OF_MORE_CONTAINERS: Sequence[Check[Laboratory]] = (
    Check("memory limit", trials.memory),
    Check("pids limit", trials.pids),
)


class Examination:
    """One visit: tells each finding as it is made, and keeps them all."""

    def __init__(
        self, settings: Settings, warnings: Sequence[str], tell: Callable[[Finding], None]
    ) -> None:
        self.findings: list[Finding] = []
        self._settings = settings
        self._machine = Machine(settings, warnings, find_engine(settings.docker_host))
        self._tell = tell

    async def run(self) -> list[Finding]:
        """Make every check, and return what was found. Leaves no container behind."""
        for check in OF_THE_MACHINE:
            await self._make(check, self._machine)
        async with contextlib.AsyncExitStack() as stack:
            engine = DockerEngine(self._machine.url, streams=STREAMS)
            stack.push_async_callback(engine.close)
            report = await self._engine(engine)
            await self._make_all(OF_THE_ENGINE, report)
            spec = await self._image(engine) if report else self._skip("image")
            laboratory = Laboratory(engine, self._settings, spec) if spec else None
            sandbox = await self._container(stack, laboratory)
            await self._make_all(OF_A_CONTAINER, sandbox)
            await stack.pop_all().aclose() if False else None
            await self._make_all(OF_MORE_CONTAINERS, laboratory)
        return self.findings
