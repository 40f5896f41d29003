"""Start spare containers as the server starts its own; the doctor and the canary use them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pool.container import Container
from pool.engine.spec import create_document
from pool.errors import PoolError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping

    from pgexec.settings import Settings
    from pool.engine.docker import DockerEngine
    from pool.engine.spec import ContainerSpec, Limits

CANARY = "canary"
"""The role of containers that the isolation canary probes."""
CODE_BYTES = 1 << 20
MEMORY_BYTES = 64 << 20
DESTROY_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Laboratory:
    """Starts spare containers from the server's own spec, with labels of their own."""

    engine: DockerEngine
    settings: Settings
    spec: ContainerSpec
    labels: Callable[[], Mapping[str, str]]
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @contextlib.asynccontextmanager
    async def container(self, limits: Limits | None = None) -> AsyncIterator[Container]:
        """Yield a container with `limits`, by default those of the settings; then remove it.

        If the settings' own limits are too small for our snippets, the container gets larger ones.
        """
        own = self.spec.limits
        limits = limits or replace(own, memory_bytes=max(own.memory_bytes, MEMORY_BYTES))
        spec = replace(self.spec, limits=replace(limits, code_bytes=CODE_BYTES))
        document = create_document(spec, labels=self.labels(), sequence=next(self._numbers))
        container = await Container.start(
            self.engine, document, timeout_s=self.settings.start_timeout_s
        )
        try:
            yield container
        finally:
            await asyncio.shield(asyncio.ensure_future(_remove(container)))


async def _remove(container: Container) -> None:
    # If the engine does not remove it, it ends by itself: its stream has been closed.
    with contextlib.suppress(PoolError, TimeoutError):
        async with asyncio.timeout(DESTROY_TIMEOUT_S):
            await container.destroy()
