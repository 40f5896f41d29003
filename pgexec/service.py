"""What the routes need of whatever runs snippets, and the pool in that role."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from pool.dependencies.requirements import normalise
from pool.errors import LayerMissing
from pool.job import Job

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
    """Where the time of a run went and what served it, filled in as far as it gets.

    `install_s` is the wait for dependencies, `queue_s` that for a container, of which `start_s`
    went into starting it; `lease_s` is the use of the container, of which the snippet had
    `run_s`. `install_at` and `lease_at` are when those began, of `time.perf_counter`. `None` is
    what did not happen.
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
    """Hears how a run comes along. Must not raise, block or call back."""

    def queued(self, position: int) -> None:
        """Hear the place in the queue, 1 for the next request, and each change of it."""
        ...

    def line(self, text: str) -> None:
        """Hear one line of the installer's, without its end."""
        ...

    def leased(self) -> None:
        """Hear that the run has its container."""
        ...

    def output(self, kind: Kind, data: bytes) -> None:
        """Hear a piece of the snippet's stdout or stderr."""
        ...


class Service(Protocol):
    """Runs snippets. Raises `PoolError`; what a snippet does is never an error."""

    async def run(
        self,
        request: RunRequest,
        timeout_s: float,
        tenant: str,
        timings: Timings,
        progress: Progress | None = None,
    ) -> Result:
        """Run a request's snippet on behalf of a tenant. Cancelling ends the run.

        The snippet may take `timeout_s`, whatever the request asks for. Fills in `timings`, also
        where it fails, and tells `progress`.
        """
        ...

    def unready(self) -> str | None:
        """Return why a run would not be served now, `None` when it would."""
        ...

    def pools(self) -> Mapping[str, Snapshot]:
        """Return a picture of each pool by its name."""
        ...


class Dependencies(Protocol):
    """Has layers of dependencies, installing them where need be."""

    def use(
        self,
        requirements: Requirements,
        *,
        language: str,
        tenant: str,
        on_line: OnLine | None = None,
    ) -> AbstractAsyncContextManager[Layer]:
        """Give a layer for a language's containers; see `LayerStore.use`.

        It stays as long as the block lasts.
        """
        ...

    async def is_damaged(self, layer: Layer) -> bool:
        """Whether a layer is no longer what it was; if so, the next use makes it anew."""
        ...


class PoolService:
    """Runs snippets in the containers of their language's pool, with the layers they depend on."""

    def __init__(
        self,
        pools: Mapping[str, PoolManager],
        dependencies: Dependencies,
        *,
        output_limit_bytes: int,
    ) -> None:
        self._pools = pools
        self._dependencies = dependencies
        self._output_limit_bytes = output_limit_bytes

    async def run(
        self,
        request: RunRequest,
        timeout_s: float,
        tenant: str,
        timings: Timings,
        progress: Progress | None = None,
    ) -> Result:
        """Lease a container, run the snippet in it, and leave it to the pool."""
        job = Job(
            code=request.code.encode(),
            stdin=request.stdin.encode(),
            timeout_s=timeout_s,
            output_limit_bytes=self._output_limit_bytes,
        )
        if not request.dependencies:
            return await self._run(job, request, tenant, timings, progress)
        async with self._layer(request, tenant, timings, progress) as layer:
            try:
                named = replace(job, layer=layer.name)
                return await self._run(named, request, tenant, timings, progress)
            except LayerMissing:
                # The snippet has not begun. Somebody else's hand was on the volume.
                if not await self._dependencies.is_damaged(layer):
                    raise
        async with self._layer(request, tenant, timings, progress) as layer:
            named = replace(job, layer=layer.name)
            return await self._run(named, request, tenant, timings, progress)

    @asynccontextmanager
    async def _layer(
        self, request: RunRequest, tenant: str, timings: Timings, progress: Progress | None
    ) -> AsyncIterator[Layer]:
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
                timings.queue_s = lease.queued_s  # a stream's head is about to tell
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

    def unready(self) -> str | None:
        """Return the pools' own reasons, each with its language where there are several."""
        found = {name: pool.snapshot().unready for name, pool in self._pools.items()}
        reasons = [(name, reason) for name, reason in found.items() if reason is not None]
        if len(self._pools) > 1:
            return "; ".join(f"{name}: {reason}" for name, reason in reasons) or None
        return reasons[0][1] if reasons else None

    def pools(self) -> Mapping[str, Snapshot]:
        """Return each pool's state, by language."""
        return {language: pool.snapshot() for language, pool in self._pools.items()}
