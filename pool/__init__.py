r"""A pool of warm containers: lease one, run one snippet in it, give it back.

The server in `pgexec` uses this package. This whole program does, too::

    import asyncio

    from pool import Container, Job, PoolConfig, PoolManager
    from pool.engine.address import find_engine
    from pool.engine.docker import DockerEngine
    from pool.engine.image import prepare
    from pool.engine.spec import ContainerSpec, create_document


    async def main() -> None:
        engine = DockerEngine(find_engine(""), streams=2)
        image = await prepare(engine, "python:alpine", directories=("/home/code",))
        spec = ContainerSpec(image.name, image.prepared)

        async def launch(number: int) -> Container:
            document = create_document(spec, labels={"made-by": "example"}, sequence=number)
            return await Container.start(engine, document)

        async with PoolManager(launch, PoolConfig(min_idle=1, max_containers=2)) as pool:
            async with pool.lease(tenant="alice") as lease:
                result = await lease.run(Job(b"print(6 * 7)"))
                print(result.status, result.stdout)  # ok b'42\n'
        await engine.close()


    asyncio.run(main())

A snippet that fails is a `Result`; a `PoolError` is a fault of the pool or the engine. `pool`
itself needs the standard library only, `pool.engine` needs aiodocker besides, `pool.dependencies`
packaging. In a container this file is empty, because only the runner is there.
"""

from pool.config import PoolConfig
from pool.container import Container
from pool.errors import (
    ContainerLost,
    EngineError,
    EngineUnavailable,
    ImageMissing,
    InstallError,
    LayerMissing,
    LeaseTimeout,
    NoRoom,
    NotWritten,
    PoolClosed,
    PoolError,
    PoolSaturated,
    PreimportRefused,
    RunnerProtocolError,
    SessionBusy,
    SessionEnd,
    SessionEnded,
    SessionsSaturated,
    SessionUnknown,
    TenantSaturated,
)
from pool.job import InputFile, Job, OutputFile, Result, Status
from pool.lease import Launcher, Lease
from pool.manager import PoolManager
from pool.observer import Observer, Snapshot
from pool.session import PooledSession
from pool.sessions import Sessions

__all__ = [
    "Container",
    "ContainerLost",
    "EngineError",
    "EngineUnavailable",
    "ImageMissing",
    "InputFile",
    "InstallError",
    "Job",
    "Launcher",
    "LayerMissing",
    "Lease",
    "LeaseTimeout",
    "NoRoom",
    "NotWritten",
    "Observer",
    "OutputFile",
    "PoolClosed",
    "PoolConfig",
    "PoolError",
    "PoolManager",
    "PoolSaturated",
    "PooledSession",
    "PreimportRefused",
    "Result",
    "RunnerProtocolError",
    "SessionBusy",
    "SessionEnd",
    "SessionEnded",
    "SessionUnknown",
    "Sessions",
    "SessionsSaturated",
    "Snapshot",
    "Status",
    "TenantSaturated",
]
