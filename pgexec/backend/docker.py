"""The pool's containers on a real engine: image, network, labels, and what is left over."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections import defaultdict
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from pgexec.backend.laboratory import Laboratory
from pgexec.backend.layers import PooledLayers, installer_config
from pgexec.backend.preparation import LOOK_EVERY_S, Preparation
from pgexec.settings import SettingsError, profiles
from pool.container import Container
from pool.docker_engine import DockerEngine, find_engine
from pool.egress import make_plan, own_addresses, own_resolvers
from pool.engine import Leak
from pool.errors import EngineError, ImageMissing, PoolError, PreimportRefused
from pool.image import bootstrap_command, prepare
from pool.requirements import normalise
from pool.spec import (
    CA_BUNDLE,
    LABEL,
    LABEL_INSTANCE,
    LABEL_PROFILE,
    LABEL_ROLE,
    ContainerSpec,
    Limits,
    create_document,
)
from pool.sweep import instance_name, is_abandoned, is_left_over, labels

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pgexec.settings import Profile, Settings
    from pool.egress import Plan
    from pool.engine import EngineObserver
    from pool.layers import Layer
    from pool.manager import PoolManager
    from pool.observer import LayerObserver

logger = logging.getLogger("pgexec")

NETWORK = "pgexec-egress"
CANARY = "canary"
"""The role of containers that the isolation canary probes."""
SWEEP_EVERY_S = 60.0
HEARTBEAT_S = 0.5
HEARTBEAT_TIMEOUT_S = 1.0
EXPIRY_SLACK_S = 3600.0
CLEAR_S = 10.0


class DockerBackend:
    """Starts containers as the settings say. Needs a running event loop."""

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
        self._preparations = {
            name: Preparation(_described(one), partial(self._prepare, one))
            for name, one in self._profiles.items()
        }
        installer = installer_config(
            settings,
            trust=_trust(CA_BUNDLE) if settings.ca_bundle else {},
            network=_installer_network(settings),
        )
        self.dependencies = PooledLayers(
            self._engine,
            settings,
            installer,
            instance=self._instance,
            spec=self._spec,
            shared=self._shared,
            labels=partial(self._labels, profiles.DEFAULT),
        )
        self._give_up_s = 2 * settings.start_timeout_s
        self._sweep_at = self._failed_at = -math.inf
        self._layers: dict[str, Layer] = {}  # of profiles, by language
        self._installed: dict[str, Sequence[str]] = {}  # in them
        self._making: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)  # by image

    def observe(self, engine: EngineObserver, layers: LayerObserver) -> None:
        """Tell these from now on of every call of the engine and of leaks, and of layers."""
        self._engine.observer = engine
        self.dependencies.store.observer = layers

    def stop_installing(self) -> None:
        """Install nothing any more, and tell those who wait for it."""
        self.dependencies.store.refuse()

    async def launch(self, number: int, language: str = profiles.DEFAULT) -> Container:
        """Start a warm container of a language's pool, once image and network are prepared."""
        preparation = self._preparations[language]
        spec = await preparation.spec()
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
            self._failed_at = time.monotonic()
            self._sweep_at = min(self._sweep_at, self._failed_at + self._give_up_s + LOOK_EVERY_S)
            await self._check_prepared(preparation, spec)
            raise
        self._installed[language] = cast("list[str]", container.runner.get("installed", []))
        return container

    async def laboratory(self, language: str) -> Laboratory:
        """Return where spare containers come from that are like those of a language's pool.

        Only that nothing is imported beforehand, which takes memory and has no say in the walls.
        """
        spec = replace(await self._spec(language), preimport=(), preload="")
        return Laboratory(
            self._engine,
            self._profiles[language].settings,
            spec,
            lambda: {**self._labels(language), LABEL_ROLE: CANARY},
        )

    async def attend(self, pools: Mapping[str, PoolManager]) -> None:
        """Prepare the images, remove what earlier servers left, tell when the engine is back."""
        for language, preparation in self._preparations.items():
            pools[language].pause(preparation.reason)
        async with asyncio.TaskGroup() as group:
            for language, preparation in self._preparations.items():
                keeping = preparation.keep(pools[language])
                group.create_task(keeping, name=f"keep the image of {language} prepared")
            group.create_task(self._look_after(), name="look after the engine")
            group.create_task(self._listen_to(pools), name="listen to the engine's heart")
            group.create_task(self.dependencies.attend(), name="look after the dependencies")

    async def _look_after(self) -> None:
        while True:
            try:
                if time.monotonic() >= self._sweep_at:
                    now = time.monotonic()
                    # What the engine made of the last start that failed is too young for this one.
                    then = self._failed_at + self._give_up_s + LOOK_EVERY_S
                    self._sweep_at = then if then > now else now + SWEEP_EVERY_S
                    await self._sweep()
            except PoolError as error:
                logger.debug("the engine does not answer: %s", error)
            await asyncio.sleep(LOOK_EVERY_S)

    async def _listen_to(self, pools: Mapping[str, PoolManager]) -> None:
        """Find out within `HEARTBEAT_TIMEOUT_S` and a beat that the engine is silent, or back.

        An engine that hangs ends no stream, and a paused container neither: both look idle.
        """
        silent = False
        while True:
            try:
                async with asyncio.timeout(HEARTBEAT_TIMEOUT_S):
                    paused = await self._engine.paused(f"{LABEL_INSTANCE}={self._instance}")
            except (PoolError, TimeoutError) as error:
                sentence = str(error) or f"no answer within {HEARTBEAT_TIMEOUT_S:g} s"
                if not silent:
                    logger.warning("no good answer from the engine: %s", sentence)
                silent = True
                for pool in pools.values():
                    pool.doubt(f"no good answer from the engine: {sentence}")
                self._engine.renegotiate()
            else:
                self._heard(pools, paused, again=silent)
                silent = False
            await asyncio.sleep(HEARTBEAT_S)

    def _heard(
        self, pools: Mapping[str, PoolManager], paused: Sequence[str], *, again: bool
    ) -> None:
        """Tell the pools that the engine answers, and which containers somebody has paused."""
        if again:
            logger.info("the engine answers again")
            # It may have been killed, and its containers left half removed.
            self._sweep_at = min(self._sweep_at, time.monotonic() + LOOK_EVERY_S)
        if paused:
            logger.warning("somebody paused %s", ", ".join(one[:12] for one in paused))
        for language, pool in pools.items():
            pool.doubt(None)
            # An engine that is back does not change what an import leaves behind.
            if again and not self._preparations[language].refused:
                pool.retry()
            if paused:
                pool.lose(paused)

    async def close(self) -> None:
        """Let go of the engine."""
        for preparation in self._preparations.values():
            await preparation.close()
        await self.dependencies.close()
        with contextlib.suppress(PoolError, TimeoutError):
            async with asyncio.timeout(CLEAR_S):
                # What the pool knew of is gone; this is what it could not know of.
                for container in await self._engine.owned(f"{LABEL_INSTANCE}={self._instance}"):
                    await self._remove(container.id)
        await self._engine.close()

    async def _prepare(self, profile: Profile) -> ContainerSpec:
        async with self._making[profile.settings.image]:  # two of one image make it once
            spec = await prepare_spec(self._engine, profile.settings)
        if profile.name != profiles.DEFAULT:
            # BLAS and OpenMP would start a thread for each of the machine's processors.
            threads = {"OMP_NUM_THREADS": str(math.ceil(profile.settings.cpus))}
            spec = replace(spec, environment={**(spec.environment or {}), **threads})
        if profile.dependencies:
            layer = await self.dependencies.preload(normalise(profile.dependencies), spec)
            self._layers[profile.name] = layer
            spec = replace(spec, preload=layer.name)
        return spec

    async def _spec(self, language: str) -> ContainerSpec:
        return await self._preparations[language].spec()

    def _shared(self, language: str) -> Sequence[str]:
        """Return what each container of a language has installed, by version once that is known."""
        return self._installed.get(language) or self._profiles[language].dependencies

    async def _check_layer(self, language: str) -> None:
        """Make a profile's layer anew if it is not what it was."""
        layer = self._layers.get(language)
        if layer is not None and await self.dependencies.is_damaged(layer):
            self._layers.pop(language, None)
            self._preparations[language].refused = False
            self._preparations[language].discard()

    async def _check_prepared(self, preparation: Preparation, spec: ContainerSpec) -> None:
        """Prepare anew next time if what was prepared has been removed meanwhile."""
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

    async def _sweep(self) -> None:
        """Remove containers whose server is gone, and our own that the pool cannot know of."""
        now = time.time()
        expires_before = now - self._give_up_s + self._lifetime_s
        for container in await self._engine.owned(LABEL):
            if is_left_over(container, now=now):
                logger.info("removing %s, which another server left over", container.id[:12])
                self._engine.observer.leaked(Leak.LEFT_OVER)
            elif is_abandoned(container, self._instance, expires_before=expires_before):
                logger.info("removing %s, which never came up", container.id[:12])
                self._engine.observer.leaked(Leak.NEVER_CAME_UP)
            else:
                continue
            await self._remove(container.id)

    async def _remove(self, container_id: str) -> None:
        try:
            await self._engine.remove(container_id)
        except EngineError as error:
            logger.warning("cannot remove container %s: %s", container_id[:12], error)

    @property
    def _lifetime_s(self) -> float:
        return self._settings.max_age_s + EXPIRY_SLACK_S

    def _labels(self, language: str) -> dict[str, str]:
        return container_labels(self._instance, self._settings, language)

    def _sequence(self, number: int, language: str) -> int:
        """Return a container's number among those of all pools, each of which counts its own."""
        return number * len(self._numbers) + self._numbers[language]


async def prepare_spec(engine: DockerEngine, settings: Settings) -> ContainerSpec:
    """Make the image and the network that the settings ask for; return what uses them."""
    ca_bundle = ""
    if settings.ca_bundle:
        ca_bundle = await asyncio.to_thread(Path(settings.ca_bundle).read_text)
    image = await prepare(
        engine, settings.image, directories=(settings.root_dir,), ca_bundle=ca_bundle
    )
    network = settings.network
    if "egress" in (network, settings.dependency_network):
        await engine.ensure_network(NETWORK, LABEL)
    if network == "egress":
        network = NETWORK
    await engine.ensure_volume(settings.dependency_volume, LABEL)
    plan = network_plan(settings)
    script = f"{settings.root_dir}/{settings.code_file_name}.py"
    return ContainerSpec(
        image=image.name,
        prepared=image.prepared,
        base_id=image.base_id,
        bootstrap=() if image.prepared else bootstrap_command(script),
        script=script,
        network=network,
        layers=settings.dependency_volume,
        guard=plan.document() if plan else None,
        runtime=settings.runtime,
        preimport=settings.preimport,
        limits=Limits(
            memory_bytes=settings.memory_limit,
            cpus=settings.cpus,
            pids=settings.pids_limit,
            disk_bytes=settings.disk_limit,
            code_bytes=settings.code_limit,
            stdin_bytes=settings.stdin_limit,
        ),
        max_uses=settings.max_uses,
        environment=_trust(CA_BUNDLE) if ca_bundle and image.prepared else {},
    )


def _described(profile: Profile) -> str:
    """Name what containers are started from."""
    image = f"the image {profile.settings.image}"
    return f"{image} with {', '.join(profile.dependencies)}" if profile.dependencies else image


def network_plan(settings: Settings) -> Plan | None:
    """Return what containers must not reach; only our own network is guarded."""
    return _plan(settings) if settings.network == "egress" else None


def _plan(settings: Settings) -> Plan:
    return make_plan(settings.network_allow, own_addresses(), own_resolvers())


def _installer_network(settings: Settings) -> tuple[str, Mapping[str, object] | None]:
    """Return the network of the installers where it is not the snippets', and its guard."""
    if settings.dependency_network == "egress":
        return NETWORK, _plan(settings).document()
    return settings.dependency_network, None


def container_labels(
    instance: str, settings: Settings, language: str = profiles.DEFAULT
) -> dict[str, str]:
    """Return the labels of a container that is started now."""
    expires_at = time.time() + settings.max_age_s + EXPIRY_SLACK_S
    return labels(instance, expires_at) | {LABEL_PROFILE: language}


def _trust(bundle: str) -> dict[str, str]:
    """Return the variables by which Python, pip, requests and curl find CA certificates."""
    names = ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
    return dict.fromkeys(names, bundle)
