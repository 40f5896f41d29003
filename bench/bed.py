"""What every measurement shares: settings, engine, images, and containers of the pool's kind."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.engine_flows import EngineFlows
from bench.errors import AnswerError
from pgexec.backend.docker import DockerBackend
from pgexec.settings import load_settings
from pool.container import Container
from pool.engine.address import find_engine
from pool.engine.docker import DockerEngine
from pool.engine.ownership import instance_name, labels
from pool.engine.sources import bootstrap_command
from pool.engine.spec import LABEL_INSTANCE, LABEL_ROLE, ContainerSpec, create_document
from pool.job import Job
from pool.language import PYTHON

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from aiodocker.types import JSONObject

    from pgexec.settings import Settings
    from pool.engine.api import Owned
    from pool.job import ResetReport, Result

MANY_USES = 10_000
RESET_TIMEOUT_S = 10.0
_CONNECTIONS = 64


@dataclass(frozen=True, slots=True)
class Bed:
    """The test bed. `prepared` is the image that the pool's containers run."""

    settings: Settings
    engine: DockerEngine
    backend: DockerBackend
    flows: EngineFlows
    prepared: str
    document: JSONObject
    """How the engine says that a container of the pool was created."""

    @property
    def stock(self) -> str:
        """The image that the settings name."""
        return self.settings.image

    @contextlib.asynccontextmanager
    async def containers(self, count: int) -> AsyncIterator[Sequence[Container]]:
        """Start containers exactly as a server does, without a server."""
        async with contextlib.AsyncExitStack() as stack:
            started = []
            for number in range(count):
                started.append(await self.backend.launch(number))
                stack.push_async_callback(started[-1].destroy)
            yield started

    @contextlib.asynccontextmanager
    async def stock_container(self) -> AsyncIterator[Container]:
        """Start the runner in the stock image, as where no image can be prepared."""
        container = await self.start_stock()
        try:
            yield container
        finally:
            await container.destroy()

    async def remove_volume(self, name: str) -> None:
        """Remove a volume that a measured server has left."""
        volume = await self.engine.docker.volumes.get(name)  # type: ignore[no-untyped-call]
        await volume.delete()

    async def start_stock(self) -> Container:
        """Start one container with the runner in the stock image; no network."""
        settings = self.settings
        script = PYTHON.script(settings.root_dir, settings.code_file_name)
        spec = ContainerSpec(
            image=self.stock,
            prepared=False,
            script=script,
            preimport=settings.preimport,
            idle_imports=settings.idle_imports,
            idle_memory_bytes=settings.idle_memory,
            bootstrap=bootstrap_command(script),
        )
        names = labels(instance_name(), time.time() + 3600)
        return await Container.start(self.engine, create_document(spec, labels=names, sequence=900))

    async def owned_by(self, pid: int) -> list[str]:
        """Return the ids of the containers that the engine lists for the server with this pid."""
        return [one.id for one in await self._owned(pid)]

    async def pooled_by(self, pid: int) -> list[str]:
        """Return those of them that run snippets, without what keeps volumes."""
        return [one.id for one in await self._owned(pid) if LABEL_ROLE not in one.labels]

    async def _owned(self, pid: int) -> list[Owned]:
        # An instance's name ends in the process's pid and start time (pool/engine/ownership.py).
        found = await self.engine.owned(LABEL_INSTANCE)
        return [one for one in found if one.labels[LABEL_INSTANCE].split("/")[-2] == str(pid)]


@contextlib.asynccontextmanager
async def test_bed() -> AsyncIterator[Bed]:
    """Connect to the engine; prepares image and network as a server's first start does."""
    settings = load_settings()[0].model_copy(update={"max_uses": MANY_USES})
    url = find_engine(settings.docker_host)
    engine = DockerEngine(url, streams=_CONNECTIONS)
    backend = DockerBackend(settings)
    try:
        sample = await backend.launch(0)
        try:
            about = await engine.docker.containers.container(sample.id).show()
        finally:
            await sample.destroy()
        config = {**about["Config"], "HostConfig": about["HostConfig"]}
        flows = EngineFlows(engine.docker, url, settings.runtime)
        image = str(config["Image"])
        # A container keeps its image from being removed, should another server renew it.
        async with flows.warm(image):
            yield Bed(settings, engine, backend, flows, image, config)
    finally:
        await backend.close()
        await engine.close()


async def run(container: Container, code: str) -> tuple[Result, float]:
    """Run a snippet; return its result and the seconds that the round trip took."""
    started = time.perf_counter()
    result = await container.run(Job(code.encode()))
    return result, time.perf_counter() - started


async def reset(container: Container) -> ResetReport:
    """Wait until the container is clean again. Raises `AnswerError` if it is not."""
    report = await container.reset(timeout_s=RESET_TIMEOUT_S)
    if not report.clean:
        raise AnswerError(f"a reset was dirty: {report.detail}")
    return report


async def settle(seconds: float = 0.3) -> None:
    """Let what was started in the background come to its end."""
    await asyncio.sleep(seconds)
