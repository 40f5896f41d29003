"""The pool's containers on a real engine: image, network, labels, and what is left over."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pgexec.dependencies import PooledLayers, installer_config
from pgexec.settings import SettingsError
from pool.container import Container
from pool.docker_engine import DockerEngine, find_engine
from pool.egress import make_plan, own_addresses, own_resolvers
from pool.engine import Leak
from pool.errors import EngineError, EngineUnavailable, ImageMissing, PoolError
from pool.image import bootstrap_command, prepare
from pool.spec import CA_BUNDLE, LABEL, LABEL_INSTANCE, ContainerSpec, Limits, create_document
from pool.sweep import instance_name, is_abandoned, is_left_over, labels

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgexec.settings import Settings
    from pool.egress import Plan
    from pool.engine import EngineObserver
    from pool.manager import PoolManager

logger = logging.getLogger("pgexec")

NETWORK = "pgexec-egress"
SWEEP_EVERY_S = 60.0
LOOK_EVERY_S = 1.0
HEARTBEAT_S = 0.5
HEARTBEAT_TIMEOUT_S = 1.0
PREPARE_PAUSE_S = 30.0
EXPIRY_SLACK_S = 3600.0
CLEAR_S = 10.0


class DockerBackend:
    """Starts containers as the settings say. Needs a running event loop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        url = find_engine(settings.docker_host)
        try:
            self._engine = DockerEngine(url, streams=settings.pool_max_containers)
        except OSError as error:
            sentence = f"the certificates for {url} in DOCKER_CERT_PATH cannot be used: {error}"
            raise SettingsError(sentence) from error
        self._instance = instance_name()
        self._preparation: asyncio.Task[ContainerSpec] | None = None
        self._outdated = asyncio.Event()  # what was prepared has been removed since
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
            labels=self._labels,
        )
        self._give_up_s = 2 * settings.start_timeout_s
        self._sweep_at = self._failed_at = -math.inf

    def observe(self, observer: EngineObserver) -> None:
        """Tell `observer` of every call of the engine from now on, and of leaks."""
        self._engine.observer = observer

    async def launch(self, number: int) -> Container:
        """Start a warm container, once image and network are prepared."""
        spec = await self._spec()
        document = create_document(spec, labels=self._labels(), sequence=number)
        try:
            return await Container.start(
                self._engine, document, timeout_s=self._settings.start_timeout_s
            )
        except EngineError:
            self._failed_at = time.monotonic()
            self._sweep_at = min(self._sweep_at, self._failed_at + self._give_up_s + LOOK_EVERY_S)
            await self._check_prepared(spec)
            raise

    async def attend(self, pool: PoolManager) -> None:
        """Prepare the image, remove what earlier servers left, tell when the engine is back."""
        pool.pause(self._preparing)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_prepared(pool), name="keep the image prepared")
            group.create_task(self._look_after(), name="look after the engine")
            group.create_task(self._listen_to(pool), name="listen to the engine's heart")
            group.create_task(self.dependencies.attend(), name="look after the dependencies")

    async def _keep_prepared(self, pool: PoolManager) -> None:
        """Let the pool start containers only while there is what they are started from."""
        while True:
            pool.pause(self._preparing)
            await self._until_prepared(pool)
            pool.resume()
            await self._outdated.wait()
            self._outdated.clear()

    async def _until_prepared(self, pool: PoolManager) -> None:
        pause_s, told = LOOK_EVERY_S, ""
        while True:
            try:
                await self._spec()
            except (PoolError, OSError) as error:
                sentence = f"cannot prepare the image {self._settings.image}: {error}"
                if sentence != told:
                    logger.warning(sentence)
                told = sentence
                pool.pause(sentence)
                # An engine that is away is asked again soon; a registry is left in peace.
                away = isinstance(error, EngineUnavailable)
                pause_s = LOOK_EVERY_S if away else min(PREPARE_PAUSE_S, 2 * pause_s)
                await asyncio.sleep(pause_s)
            else:
                return

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

    async def _listen_to(self, pool: PoolManager) -> None:
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
                pool.doubt(f"no good answer from the engine: {sentence}")
                self._engine.renegotiate()
            else:
                pool.doubt(None)
                if silent:
                    logger.info("the engine answers again")
                    pool.retry()
                    # It may have been killed, and its containers left half removed.
                    self._sweep_at = min(self._sweep_at, time.monotonic() + LOOK_EVERY_S)
                silent = False
                if paused:
                    logger.warning("somebody paused %s", ", ".join(one[:12] for one in paused))
                    pool.lose(paused)
            await asyncio.sleep(HEARTBEAT_S)

    async def close(self) -> None:
        """Let go of the engine."""
        if self._preparation is not None and not self._preparation.done():
            self._preparation.cancel()
            await asyncio.wait([self._preparation])
        await self.dependencies.close()
        with contextlib.suppress(PoolError, TimeoutError):
            async with asyncio.timeout(CLEAR_S):
                # What the pool knew of is gone; this is what it could not know of.
                for container in await self._engine.owned(f"{LABEL_INSTANCE}={self._instance}"):
                    await self._remove(container.id)
        await self._engine.close()

    async def _spec(self) -> ContainerSpec:
        """Return the spec of the pool's containers, once what it names exists.

        All callers share one preparation; one that fails is tried again by the next.
        """
        task = self._preparation
        if task is None or (task.done() and (task.cancelled() or task.exception())):
            task = self._preparation = asyncio.create_task(self._prepare(), name="prepare")
        return await asyncio.shield(task)

    async def _prepare(self) -> ContainerSpec:
        return await prepare_spec(self._engine, self._settings)

    async def _check_prepared(self, spec: ContainerSpec) -> None:
        """Prepare anew next time if what was prepared has been removed meanwhile."""
        try:
            gone = not await self._engine.image_id(spec.image)
            if not gone and self._settings.network == "egress":
                await self._engine.ensure_network(NETWORK, LABEL)
        except ImageMissing:
            gone = True
        except EngineError:
            gone = False
        if gone:
            self._preparation = None
            self._outdated.set()

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
    def _preparing(self) -> str:
        return f"preparing the image {self._settings.image}"

    @property
    def _lifetime_s(self) -> float:
        return self._settings.max_age_s + EXPIRY_SLACK_S

    def _labels(self) -> dict[str, str]:
        return container_labels(self._instance, self._settings)


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


def container_labels(instance: str, settings: Settings) -> dict[str, str]:
    """Return the labels of a container that is started now."""
    return labels(instance, time.time() + settings.max_age_s + EXPIRY_SLACK_S)


def _trust(bundle: str) -> dict[str, str]:
    """Return the variables by which Python, pip, requests and curl find CA certificates."""
    names = ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
    return dict.fromkeys(names, bundle)
