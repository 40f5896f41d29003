"""The service behind the routes: it runs snippets in the pool's containers."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from pool.dependencies.requirements import normalise
from pool.errors import LayerMissing
from pool.job import InputFile, Job

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from contextlib import AbstractAsyncContextManager

    from pgexec.contract import RunRequest
    from pool.dependencies.layer import Layer
    from pool.dependencies.pip_log import OnLine
    from pool.dependencies.requirements import Requirements
    from pool.inside.protocol import Kind
    from pool.job import Result
    from pool.manager import PoolManager
    from pool.observer import Snapshot


@dataclass(slots=True)
class Timings:
    """The container of a run, and its times in seconds; each is set once it is known.

    - `install_s`: the wait for dependencies; it began at `install_at`
    - `queue_s`: the wait for a container; during `start_s` of it, the container was starting
    - `lease_s`: the use of the container, from `lease_at` on; the snippet itself took `run_s`

    `install_at` and `lease_at` are times of `time.perf_counter`. A step that did not happen is
    `None`.
    """

    container_id: str | None = None
    source: str | None = None
    queue_s: float | None = None
    start_s: float | None = None
    install_s: float | None = None
    lease_s: float | None = None
    run_s: float | None = None
    install_at: float | None = None
    lease_at: float | None = None


class Progress(Protocol):
    """Hears the progress of a run. Must not raise, block or call the pool."""

    def queued(self, position: int) -> None:
        """Hear the place in the queue, 1 for the next request, and each change of it."""
        ...

    def line(self, text: str) -> None:
        """Hear one line of the installer, without its line end."""
        ...

    def leased(self) -> None:
        """Hear that the run has its container."""
        ...

    def output(self, kind: Kind, data: bytes) -> None:
        """Hear a piece of the snippet's stdout or stderr."""
        ...


class Service(Protocol):
    """Runs snippets. May raise `PoolError`. A snippet that fails is a result, never an error."""

    async def run(
        self,
        request: RunRequest,
        timeout_s: float,
        tenant: str,
        timings: Timings,
        progress: Progress | None = None,
    ) -> Result:
        """Run the snippet of a request for a tenant. A cancellation ends the run.

        The snippet may take `timeout_s` seconds; the request's own field does not count here.
        Fills in `timings`, even if it fails, and tells `progress`.
        """
        ...

    def at_once(self, language: str, tenant: str) -> int:
        """Return the most runs of a tenant that may have a container of a language at once."""
        ...

    def unready(self, *, though_full: bool = False) -> str | None:
        """Return the reason why a run would not be served now, or `None` if it would.

        If `though_full`, that too many wait is no reason.
        """
        ...

    def pools(self) -> Mapping[str, Snapshot]:
        """Return the state of each pool by its name."""
        ...


class Dependencies(Protocol):
    """The layers of dependencies; it installs missing ones."""

    def use(
        self,
        requirements: Requirements,
        *,
        language: str,
        tenant: str,
        on_line: OnLine | None = None,
    ) -> AbstractAsyncContextManager[Layer]:
        """Yield a layer for a language's containers; see `LayerStore.use`.

        The layer is not evicted before the block ends.
        """
        ...

    async def is_damaged(self, layer: Layer) -> bool:
        """Return True if a layer has changed; the next use then installs it again."""
        ...


class PoolService:
    """Runs snippets in containers of their language's pool, with their layers of dependencies."""

    def __init__(
        self,
        pools: Mapping[str, PoolManager],
        dependencies: Dependencies,
        *,
        output_limit_bytes: int,
        collect_limit_bytes: int = 16 << 20,
        files_max: int = 100,
    ) -> None:
        self._pools = pools
        self._dependencies = dependencies
        self._output_limit_bytes = output_limit_bytes
        self._collect_limit_bytes = collect_limit_bytes
        self._files_max = files_max

    async def run(
        self,
        request: RunRequest,
        timeout_s: float,
        tenant: str,
        timings: Timings,
        progress: Progress | None = None,
    ) -> Result:
        """Lease a container, run the snippet in it, and give it back to the pool."""
        job = self.job(request, timeout_s)
        if not request.dependencies:
            return await self._run(job, request, tenant, timings, progress)
        async with self.layer(request, tenant, timings, progress) as layer:
            try:
                named = replace(job, layer=layer.name)
                return await self._run(named, request, tenant, timings, progress)
            except LayerMissing:
                # Something else has removed the layer from the volume. The snippet has not begun,
                # so a second try runs it once.
                if not await self._dependencies.is_damaged(layer):
                    raise
        async with self.layer(request, tenant, timings, progress) as layer:
            named = replace(job, layer=layer.name)
            return await self._run(named, request, tenant, timings, progress)

    def job(self, request: RunRequest, timeout_s: float) -> Job:
        """Return the job of a request, without its layer. Its snippet may take `timeout_s`."""
        return Job(
            code=request.code.encode(),
            stdin=request.stdin.encode(),
            timeout_s=timeout_s,
            output_limit_bytes=request.output_limit_bytes or self._output_limit_bytes,
            cpu_time_s=request.cpu_time_s,
            memory_limit_bytes=request.memory_limit_bytes,
            collect=request.collect,
            collect_limit_bytes=self._collect_limit_bytes,
            collect_max=self._files_max,
            shown_limit_bytes=self._collect_limit_bytes,
            files=[InputFile(file.name, file.data) for file in request.files],
            args=tuple(arg.encode() for arg in request.args),
            env={name.encode(): value.encode() for name, value in request.env.items()},
        )

    async def is_damaged(self, layer: Layer) -> bool:
        """Return True if a layer has changed; the next use then installs it again."""
        return await self._dependencies.is_damaged(layer)

    @asynccontextmanager
    async def layer(
        self, request: RunRequest, tenant: str, timings: Timings, progress: Progress | None
    ) -> AsyncIterator[Layer]:
        """Yield the layer of a request's dependencies; it stays until the block ends.

        Raises `InstallError` and the errors of the engine.
        """
        requirements = normalise(request.dependencies)
        began = timings.install_at = time.perf_counter()
        on_line = None if progress is None else progress.line
        try:
            async with self._dependencies.use(
                requirements, language=request.language, tenant=tenant, on_line=on_line
            ) as layer:
                timings.install_s = time.perf_counter() - began
                yield layer
        finally:
            if timings.install_s is None:
                timings.install_s = time.perf_counter() - began

    async def _run(
        self,
        job: Job,
        request: RunRequest,
        tenant: str,
        timings: Timings,
        progress: Progress | None,
    ) -> Result:
        lease = self._pools[request.language].lease(
            tenant=tenant,
            fresh=request.fresh,
            on_queued=None if progress is None else progress.queued,
        )
        try:
            async with lease:
                timings.container_id = lease.container.id
                timings.source = lease.source
                timings.queue_s = lease.queued_s  # the head of a stream tells it, so before that
                timings.start_s = lease.start_s or None
                if progress is None:
                    result = await lease.run(job)
                else:
                    progress.leased()
                    result = await lease.run(job, progress.output)
                timings.run_s = result.duration_s
                return result
        finally:
            timings.queue_s = lease.queued_s
            if lease.entered_at:
                timings.lease_at = lease.entered_at
                timings.lease_s = time.perf_counter() - lease.entered_at

    def at_once(self, language: str, tenant: str) -> int:
        """Return the tenant's bound in the pool of the language."""
        return self._pools[language].config.at_once(tenant)

    def unready(self, *, though_full: bool = False) -> str | None:
        """Return the pools' own reasons, each with its language if there are several pools."""
        seen = {name: pool.snapshot() for name, pool in self._pools.items()}
        found = {
            name: None if though_full and one.full else one.unready for name, one in seen.items()
        }
        reasons = [(name, reason) for name, reason in found.items() if reason is not None]
        if len(self._pools) > 1:
            return "; ".join(f"{name}: {reason}" for name, reason in reasons) or None
        return reasons[0][1] if reasons else None

    def pools(self) -> Mapping[str, Snapshot]:
        """Return each pool's state, by language."""
        return {language: pool.snapshot() for language, pool in self._pools.items()}
