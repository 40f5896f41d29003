"""A pool on a fake engine, and what must be true of the two together."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pool import Observer, PoolConfig, PoolManager, Snapshot
from pool.alarm import SOON_S
from pool.job import Job
from pool.manager import NO_LEASES
from tests.unit.fake_engine import FakeContainer, FakeEngine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

    from pool.job import ResetReport, Result
    from pool.lease import OnQueued
    from pool.observer import Rejection, Source
    from pool.sizing.recycling import Reason


@dataclass
class Recorder(Observer):
    """Notes what the pool tells its observer."""

    sources: list[Source] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)
    destroys: Counter[Reason] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    resets: list[ResetReport] = field(default_factory=list)
    starts: int = 0
    recycles: int = 0

    def started(self, seconds: float) -> None:
        self.starts += 1

    def start_failed(self, reason: str) -> None:
        self.failures.append(reason)

    def leased(self, source: Source, waited_s: float) -> None:
        self.sources.append(source)
        self.waits.append(waited_s)

    def rejected(self, reason: Rejection) -> None:
        self.rejections.append(reason)

    def reset(self, seconds: float, report: ResetReport) -> None:
        self.resets.append(report)

    def recycled(self) -> None:
        self.recycles += 1

    def destroyed(self, reason: Reason, uses: int) -> None:
        self.destroys[reason] += 1


@dataclass
class Rig:
    """The pool under test, its engine, and clients for it."""

    pool: PoolManager
    engine: FakeEngine
    seen: Recorder
    served: list[str] = field(default_factory=list)
    clients: list[asyncio.Task[Any]] = field(default_factory=list)

    @property
    def now(self) -> Snapshot:
        return self.pool.snapshot()

    def container(self, index: int = 0) -> FakeContainer:
        """Return one of the engine's containers, the oldest first."""
        return list(self.engine.containers.values())[index]

    async def run(
        self,
        code: bytes = b"ok",
        *,
        tenant: str = "",
        fresh: bool = False,
        timeout_s: float | None = None,
        name: str = "",
        on_queued: OnQueued | None = None,
    ) -> tuple[str, Result]:
        """Be a client: lease, run, leave. Returns the container's id and the result."""
        async with self.pool.lease(
            tenant=tenant,
            fresh=fresh,
            timeout_s=timeout_s,
            on_queued=on_queued,
        ) as lease:
            self.served.append(name)
            result = await lease.run(Job(code, stdin=tenant.encode()))
            return lease.container.id, result

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self.clients.append(task)
        return task

    async def client(self, code: bytes = b"ok", **options: Any) -> asyncio.Task[Any]:
        """Start a client and let it get as far as it can."""
        task = self.spawn(self.run(code, **options))
        await quiet()
        return task

    async def check(self) -> None:
        """Hold the pool's books against the engine's."""
        await quiet()
        assert self.now.total == len(self.engine.containers)
        assert self.engine.most <= self.pool.config.max_containers
        assert self.engine.violations == []


async def quiet() -> None:
    """Wait until nothing can happen any more without the clock or the test."""
    # On a ClockLoop time does not pass before that; a pool plans in a moment.
    await asyncio.sleep(SOON_S + 1e-6)


@asynccontextmanager
async def rig(engine: FakeEngine | None = None, **config: Any) -> AsyncIterator[Rig]:
    """Run a pool; at the end hold the books, close it, and see that nothing is left."""
    engine = engine or FakeEngine()
    seen = Recorder()
    config = {
        "min_idle": 1,
        "max_containers": 2,
        "autoscale": False,
        "start_concurrency": 2,
    } | config
    clock = asyncio.get_running_loop().time
    pool = PoolManager(engine.launcher(), PoolConfig(**config), observer=seen, clock=clock)
    before = asyncio.all_tasks()
    async with pool:
        await quiet()
        this = Rig(pool, engine, seen)
        yield this
        await this.check()
    await asyncio.gather(*this.clients, return_exceptions=True)
    await quiet()
    assert this.now.unready == NO_LEASES
    assert this.now.total == 0
    assert engine.containers == {}
    assert asyncio.all_tasks() == before
