"""The pool's containers on a real engine: image, network, labels, and what is left over."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pool.container import Container
from pool.docker_engine import DockerEngine, find_engine
from pool.egress import make_plan, own_addresses, own_resolvers
from pool.errors import EngineError, ImageMissing, PoolError
from pool.image import prepare
from pool.installer import Installer
from pool.spec import CA_BUNDLE, LABEL, ContainerSpec, Limits, create_document
from pool.sweep import instance_name, is_left_over, labels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgexec.settings import Settings
    from pool.lease import Launcher
    from pool.manager import PoolManager

logger = logging.getLogger("pgexec")

NETWORK = "pgexec-egress"
SWEEP_EVERY_S = 60.0
LOOK_EVERY_S = 1.0
EXPIRY_SLACK_S = 3600.0


class DockerBackend:
    """Starts containers as the settings say. Needs a running event loop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._engine = DockerEngine(
            find_engine(settings.docker_host), streams=settings.pool_max_containers
        )
        self._instance = instance_name()
        self._preparation: asyncio.Task[ContainerSpec] | None = None
        trust = _trust(CA_BUNDLE) if settings.ca_bundle else {}
        self._installer = Installer(self._engine, trust, settings.install_timeout_s)

    async def launch(self, number: int) -> Container:
        """Start a warm container. The first one also prepares image and network."""
        spec = await self._spec()
        document = create_document(spec, labels=self._labels(), sequence=number)
        try:
            return await Container.start(
                self._engine, document, timeout_s=self._settings.start_timeout_s
            )
        except EngineError:
            await self._check_prepared(spec)
            raise

    def with_dependencies(self, requirements: Sequence[str]) -> Launcher:
        """Return a launcher of containers in which these are installed."""

        async def launch(number: int) -> Container:
            spec = await self._spec()
            return await self._installer.start(
                spec, requirements, labels=self._labels(), sequence=number
            )

        return launch

    async def attend(self, pool: PoolManager) -> None:
        """Remove what earlier servers left, and tell the pool when the engine is back."""
        sweep_at = 0.0
        while True:
            try:
                if time.monotonic() >= sweep_at:
                    await self._sweep()
                    sweep_at = time.monotonic() + SWEEP_EVERY_S
                if pool.snapshot().start_failure is not None:
                    await self._engine.version()
                    pool.retry()
            except PoolError as error:
                logger.debug("the engine does not answer: %s", error)
            await asyncio.sleep(LOOK_EVERY_S)

    async def close(self) -> None:
        """Let go of the engine."""
        if self._preparation is not None and not self._preparation.done():
            self._preparation.cancel()
            await asyncio.wait([self._preparation])
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
        settings = self._settings
        script = f"{settings.root_dir}/{settings.code_file_name}.py"
        ca_bundle = ""
        if settings.ca_bundle:
            ca_bundle = await asyncio.to_thread(Path(settings.ca_bundle).read_text)
        image = await prepare(
            self._engine, settings.image, directories=(settings.root_dir,), ca_bundle=ca_bundle
        )
        network = settings.network
        if network == "egress":
            network = NETWORK
            await self._engine.ensure_network(network, LABEL)
        return ContainerSpec(
            image=image.name,
            prepared=image.prepared,
            script=script,
            network=network,
            guard=self._guard(),
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

    def _guard(self) -> dict[str, object] | None:
        """Return what containers must not reach; only our own network is guarded."""
        if self._settings.network != "egress":
            return None
        plan = make_plan(self._settings.network_allow, own_addresses(), own_resolvers())
        return plan.document()

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

    async def _sweep(self) -> None:
        """Remove containers whose server is gone, also where the engine was killed with it."""
        now = time.time()
        for container in await self._engine.owned(LABEL):
            if is_left_over(container, now=now):
                logger.info("removing %s, which another server left over", container.id[:12])
                await self._engine.remove(container.id)

    def _labels(self) -> dict[str, str]:
        settings = self._settings
        return labels(self._instance, time.time() + settings.max_age_s + EXPIRY_SLACK_S)


def _trust(bundle: str) -> dict[str, str]:
    """Return the variables by which Python, pip, requests and curl find CA certificates."""
    names = ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
    return dict.fromkeys(names, bundle)
