"""The layers of dependencies according to the settings, on the pool's engine."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from pgexec.settings.profiles import DEFAULT
from pool.dependencies.installer import Installer
from pool.dependencies.layer import Layer, LayersConfig
from pool.dependencies.requirements import normalise
from pool.dependencies.store import LayerStore
from pool.dependencies.volume import Volume
from pool.errors import EngineError, InstallError, LeaseTimeout, PoolError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from pgexec.settings import Settings
    from pool.dependencies.installer import InstallerConfig
    from pool.dependencies.pip_log import OnLine
    from pool.dependencies.requirements import Requirements
    from pool.dependencies.stock import Stock
    from pool.engine.docker import DockerEngine
    from pool.engine.spec import ContainerSpec

logger = logging.getLogger("pgexec")

_ONCE = "this happens once, takes minutes on a slow machine, and /readyz tells when it is done"
RETRY_S = 30.0
CLOSE_S = 5.0


class PooledLayers:
    """The layers for the containers of all pools, by language.

    `store` keeps the layers. `spec` returns the spec of a language's containers, which it may
    prepare first. `stock` returns what all containers of a language have, once one has told.
    """

    def __init__(
        self,
        engine: DockerEngine,
        settings: Settings,
        installer: InstallerConfig,
        *,
        instance: str,
        spec: Callable[[str], Awaitable[ContainerSpec]],
        stock: Callable[[str], Stock | None],
        labels: Callable[[], Mapping[str, str]],
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._spec = spec
        self._stock = stock
        self.store = LayerStore(
            Volume(
                engine,
                settings.dependency_volume,
                instance,
                labels,
                start_timeout_s=settings.start_timeout_s,
            ),
            Installer(engine, installer),
            layers_config(settings, installer),
            labels,
        )

    @contextlib.asynccontextmanager
    async def use(
        self,
        requirements: Requirements,
        *,
        language: str,
        tenant: str,
        on_line: OnLine | None = None,
    ) -> AsyncIterator[Layer]:
        """Yield a layer, which is not evicted before the block ends; see `LayerStore.use`.

        What all containers of the language have is not installed again, and stays in the same
        versions: a run cannot replace a module that was imported before the fork. If nothing is
        left to install, the layer has no name.
        """
        spec = await self._prepared(language)
        stock = self._stock(language)
        if stock is None:  # no container of the language has been ready yet
            shared = self._settings.by_language[language].dependencies
            requirements = normalise((*requirements, *shared))
        else:
            requirements = self._left(requirements, stock)
            spec = replace(spec, installed=stock.pins, extras=stock.extras)
            if not requirements:
                yield Layer("", "", 0, (), 0.0, 0.0)
                return
        async with self.store.use(requirements, spec, tenant=tenant, on_line=on_line) as layer:
            yield layer

    def _left(self, requirements: Requirements, stock: Stock) -> Requirements:
        try:
            return stock.lacks(requirements)
        except InstallError as error:
            self.store.observer.failed(error.failure)
            raise

    async def _prepared(self, language: str) -> ContainerSpec:
        wait_s = self._settings.lease_timeout_s
        try:
            async with asyncio.timeout(wait_s):
                return await self._spec(language)
        except TimeoutError as error:
            message = f"the image is not prepared yet; {_ONCE}"
            raise LeaseTimeout(message, retry_after_s=wait_s) from error

    async def is_damaged(self, layer: Layer) -> bool:
        """Return True if a layer has changed; the next use then installs it again."""
        return await self.store.is_damaged(layer)

    async def attend(self) -> None:
        """Find the layers of earlier servers, and install those that the settings name."""
        opened, told = False, ""
        missing = list(self._settings.dependency_preload)
        while missing or not opened:
            try:
                spec = await self._spec(DEFAULT)
                if not opened:
                    await self.store.open(spec)
                    opened = True
                for requirements in tuple(missing):
                    await self.preload(requirements, spec)
                    missing.remove(requirements)
            except (PoolError, OSError) as error:
                if told != str(error):
                    logger.warning("dependencies are not there yet: %s", error)
                told = str(error)
                await asyncio.sleep(RETRY_S if opened else 1.0)

    async def preload(self, requirements: Requirements, spec: ContainerSpec) -> Layer:
        """Make sure that a layer is there, and never evict it; see `LayerStore.preload`."""
        layer = await self.store.preload(requirements, spec)
        logger.info("preloaded %s: %d KiB", ", ".join(requirements), layer.bytes >> 10)
        return layer

    async def close(self) -> None:
        """Close the volume; the layers stay on it."""
        # If the engine is away, a clean-up goes on until the end of the loop cuts it short.
        closing = asyncio.create_task(self.store.close(), name="close the layers")
        await asyncio.wait([closing], timeout=CLOSE_S)
        if closing.done():
            with contextlib.suppress(EngineError):
                closing.result()


def layers_config(settings: Settings, installer: InstallerConfig) -> LayersConfig:
    """Return the settings for layers. All that an installer is told is part of a layer's key.

    A request waits for as long as the volume's and the installer's containers may take to start,
    and the installation itself: where a start takes long, the first one must not be given up.
    """
    return LayersConfig(
        limit_bytes=settings.dependency_cache_limit,
        about=json.dumps([dict(installer.environment), sorted(installer.denied)], sort_keys=True),
        failure_ttl_s=settings.dependency_failure_ttl_s,
        wait_s=settings.install_timeout_s + settings.lease_timeout_s + 2 * settings.start_timeout_s,
    )
