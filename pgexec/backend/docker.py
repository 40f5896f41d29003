"""The pool's containers on a real engine: image, network, labels, and leftovers."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from pgexec.backend.addresses import Addresses
from pgexec.backend.heartbeat import Heartbeat
from pgexec.backend.laboratory import CANARY, Laboratory
from pgexec.backend.layers import PooledLayers
from pgexec.backend.pip import installer_config
from pgexec.backend.preparation import Preparation
from pgexec.backend.spec import (
    NETWORK,
    THREADLESS,
    container_labels,
    described,
    installer_network,
    lifetime_s,
    prepare_spec,
    trust,
)
from pgexec.backend.sweeper import Sweeper
from pgexec.settings import SettingsError, profiles
from pool.container import Container
from pool.dependencies.requirements import normalise
from pool.dependencies.stock import Stock
from pool.engine.address import find_engine
from pool.engine.docker import DockerEngine
from pool.engine.ownership import instance_name
from pool.engine.spec import CA_BUNDLE, LABEL, LABEL_ROLE, create_document
from pool.errors import EngineError, ImageMissing, PreimportRefused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgexec.settings import Profile, Settings
    from pool.dependencies.layer import Layer
    from pool.engine.api import EngineObserver
    from pool.engine.spec import ContainerSpec
    from pool.manager import PoolManager
    from pool.observer import LayerObserver


class DockerBackend:
    """Starts containers according to the settings. Needs a running event loop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._profiles = settings.by_language
        self._numbers = {name: number for number, name in enumerate(self._profiles)}
        url = find_engine(settings.docker_host)
        streams = sum(one.settings.pool_max_containers for one in self._profiles.values())
        try:
            self._engine = DockerEngine(url, streams=streams)
        except OSError as error:
            sentence = f"the certificates for {url} in DOCKER_CERT_PATH cannot be used: {error}"
            raise SettingsError(sentence) from error
        self._instance = instance_name()
        self._addresses = Addresses({name: one.settings for name, one in self._profiles.items()})
        self._preparations = {
            name: Preparation(described(one), partial(self._prepare, one))
            for name, one in self._profiles.items()
        }
        installer = installer_config(
            settings,
            trust=trust(CA_BUNDLE) if settings.ca_bundle else {},
            network=installer_network(settings),
        )
        self._stocks: dict[str, Stock] = {}  # by language, once one of its containers has told
        self.dependencies = PooledLayers(
            self._engine,
            settings,
            installer,
            instance=self._instance,
            spec=self._spec,
            stock=self._stocks.get,
            labels=partial(self._labels, profiles.DEFAULT),
        )
        self._sweeper = Sweeper(
            self._engine,
            self._instance,
            lifetime_s=lifetime_s(settings),
            give_up_s=2 * settings.start_timeout_s,
        )
        self._layers: dict[str, Layer] = {}  # of profiles, by language
        self._making: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)  # by image

    def observe(self, engine: EngineObserver, layers: LayerObserver) -> None:
        """From now on, tell `engine` of each call and leak, and `layers` of each layer."""
        self._engine.observer = engine
        self.dependencies.store.observer = layers

    def stop_installing(self) -> None:
        """Install nothing any more. Runs that wait for an installation get an error at once."""
        self.dependencies.store.refuse()

    async def launch(self, number: int, language: str = profiles.DEFAULT) -> Container:
        """Prepare image and network, if need be, and start a warm container for a language."""
        preparation = self._preparations[language]
        spec = await self._spec(language)
        document = create_document(
            spec, labels=self._labels(language), sequence=self._sequence(number, language)
        )
        preparation.refused = False
        try:
            container = await Container.start(
                self._engine, document, timeout_s=self._settings.start_timeout_s
            )
        except PreimportRefused:
            preparation.refused = True
            await self._check_layer(language)
            raise
        except EngineError:
            self._sweeper.start_failed()
            await self._check_prepared(preparation, spec)
            raise
        self._stocks[language] = Stock.of(container.runner)
        return container

    async def laboratory(self, language: str) -> Laboratory:
        """Return a source of spare containers that are like those of a language's pool.

        But they pre-import nothing: this would take memory, and does not change the isolation.
        """
        spec = replace(await self._spec(language), preimport=(), idle_imports=(), preload="")
        return Laboratory(
            self._engine,
            self._profiles[language].settings,
            spec,
            lambda: {**self._labels(language), LABEL_ROLE: CANARY},
        )

    async def attend(self, pools: Mapping[str, PoolManager]) -> None:
        """Prepare the images, remove leftovers of earlier servers, watch the engine; forever."""
        for language, preparation in self._preparations.items():
            pools[language].pause(preparation.reason)
        heartbeat = Heartbeat(
            self._engine,
            self._instance,
            pools,
            self._preparations,
            self._sweeper,
            self._settings.start_timeout_s,
        )
        async with asyncio.TaskGroup() as group:
            for language, preparation in self._preparations.items():
                keeping = preparation.keep(pools[language])
                group.create_task(keeping, name=f"keep the image of {language} prepared")
            group.create_task(self._sweeper.attend(), name="look after the engine")
            group.create_task(heartbeat.listen(), name="listen to the engine's heart")
            group.create_task(self._addresses.attend(pools), name="watch the addresses")
            group.create_task(self.dependencies.attend(), name="look after the dependencies")

    async def close(self) -> None:
        """Close all connections to the engine."""
        for preparation in self._preparations.values():
            await preparation.close()
        await self.dependencies.close()
        await self._sweeper.clear()
        await self._engine.close()

    async def _prepare(self, profile: Profile) -> ContainerSpec:
        # Without the lock, two profiles of one image would prepare it twice.
        async with self._making[profile.settings.image]:
            spec = await prepare_spec(self._engine, profile.settings)
        if profile.name != profiles.DEFAULT:
            spec = replace(spec, environment={**(spec.environment or {}), **THREADLESS})
        if profile.dependencies:
            layer = await self.dependencies.preload(normalise(profile.dependencies), spec)
            self._layers[profile.name] = layer
            spec = replace(spec, preload=layer.name)
        return spec

    async def _spec(self, language: str) -> ContainerSpec:
        return self._addresses.guarded(await self._preparations[language].spec(), language)

    async def _check_layer(self, language: str) -> None:
        """Install a profile's layer again if it has changed."""
        layer = self._layers.get(language)
        if layer is not None and await self.dependencies.is_damaged(layer):
            self._layers.pop(language, None)
            self._preparations[language].refused = False
            self._preparations[language].discard()

    async def _check_prepared(self, preparation: Preparation, spec: ContainerSpec) -> None:
        """If the prepared image has been removed, prepare it again next time."""
        try:
            gone = not await self._engine.image_id(spec.image)
            if not gone and spec.network == NETWORK:
                await self._engine.ensure_network(NETWORK, LABEL)
        except ImageMissing:
            gone = True
        except EngineError:
            gone = False
        if gone:
            preparation.discard()

    def _labels(self, language: str) -> dict[str, str]:
        return container_labels(self._instance, self._settings, language)

    def _sequence(self, number: int, language: str) -> int:
        """Return a container's number among all pools; `number` counts those of its own pool."""
        return number * len(self._numbers) + self._numbers[language]
