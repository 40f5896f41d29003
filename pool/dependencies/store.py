"""The layers of dependencies: each set of requirements is installed once, and used from then on.

A layer is a directory on a volume that every sandbox mounts (docs/adr/0006). The store finds a
layer by one look into a dictionary; `Installs` makes a missing one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING

from pool.dependencies.installs import Installs
from pool.dependencies.layer import Layer, layer_of
from pool.dependencies.requirements import key_of
from pool.errors import EngineError, InstallError
from pool.observer import LayerObserver

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Mapping

    from pool.dependencies.installer import Installer
    from pool.dependencies.installs import Install
    from pool.dependencies.layer import LayersConfig
    from pool.dependencies.pip_log import OnLine
    from pool.dependencies.requirements import Requirements
    from pool.dependencies.volume import JsonObject, Volume
    from pool.engine.spec import ContainerSpec

logger = logging.getLogger(__name__)

_NAME_BYTES = 16
"""The number of random bytes in a layer's name: too many for a snippet to guess one."""


class LayerStore:
    """All layers of one server. `labels` gives a container's labels."""

    def __init__(
        self,
        volume: Volume,
        installer: Installer,
        config: LayersConfig,
        labels: Callable[[], Mapping[str, str]],
        *,
        observer: LayerObserver | None = None,
    ) -> None:
        self.config = config
        self._volume = volume
        self._installer = installer
        self._labels = labels
        self.observer = observer or LayerObserver()
        self._layers: OrderedDict[str, Layer] = OrderedDict()  # least recently used first
        self._installs = Installs(config)
        self._loading = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._pinned: set[str] = set()
        self._noted: set[str] = set()  # keys of layers whose use the volume does not know yet

    @property
    def bytes(self) -> int:
        """The size of all layers on the volume together."""
        return sum(layer.bytes for layer in self._layers.values())

    @property
    def layers(self) -> int:
        """The number of layers."""
        return len(self._layers)

    async def open(self, spec: ContainerSpec) -> None:
        """Find the layers that earlier servers left; if there are none, close the volume again.

        Raises `EngineError`. If this is never called, the first installation finds them.
        """
        await self._load(spec)
        if not self._layers and not self._installs:
            await self._volume.close()

    def refuse(self) -> None:
        """Begin to close: install nothing any more; the requests that wait get `PoolClosed`."""
        self._installs.refuse()

    async def close(self) -> None:
        """Cancel all installations, and close the volume. The layers stay on it."""
        self.refuse()
        for task in self._tasks:
            task.cancel()
        tasks = [*self._installs.tasks(), *self._tasks]
        if tasks:
            await asyncio.wait(tasks)
        await self._installer.settle()
        with contextlib.suppress(EngineError):
            if self._noted and self._volume.is_running():
                await self._volume.note_use(self._take_notes())
        await self._volume.close()

    @contextlib.asynccontextmanager
    async def use(
        self,
        requirements: Requirements,
        spec: ContainerSpec,
        *,
        tenant: str = "",
        on_line: OnLine | None = None,
    ) -> AsyncIterator[Layer]:
        """Yield the layer of the requirements; it is not evicted before the block ends.

        `spec` describes the containers that use it. If there is no such layer yet, it is
        installed, and `on_line` is called with each line of the installer. Raises `InstallError`;
        `LeaseTimeout` if this takes longer than `wait_s`; `PoolSaturated` if too many sets wait
        already; `PoolClosed`; `EngineError`.
        """
        key = self.key(requirements, spec)
        layer = self._layers.get(key)
        if layer is None:
            self.observer.missed()
            layer = await self._installs.wait(
                key,
                requirements,
                partial(self._make, key, requirements, spec),
                tenant=tenant,
                on_line=on_line,
            )
        else:
            self.observer.hit()
            layer.users += 1
        layer.used_at = time.time()
        if key in self._layers:
            self._noted.add(key)
            self._layers.move_to_end(key)
        try:
            yield layer
        finally:
            layer.users -= 1
            self._recheck(layer)
            self._evict()

    async def preload(self, requirements: Requirements, spec: ContainerSpec) -> Layer:
        """Make sure that a layer is there, and never evict it. Raises the errors of `use`."""
        async with self.use(requirements, spec) as layer:
            self._pinned.add(layer.key)
            return layer

    async def is_damaged(self, layer: Layer) -> bool:
        """Return True if a layer has changed; then also drop it: the next use installs it again."""
        try:
            sound = await self._volume.check(layer.name)
        except EngineError:
            sound = False  # whatever state it is in, it cannot be used
        layer.checked_at = time.monotonic()
        if not sound and self._layers.get(layer.key) is layer:
            logger.warning("a layer of dependencies was damaged: %s", ", ".join(layer.requirements))
            self.observer.damaged()
            self._drop(layer)
        return not sound

    def key(self, requirements: Requirements, spec: ContainerSpec) -> str:
        """Return the key of a layer. The image's digest in it stands for Python and libc."""
        profile = (spec.preload, *spec.installed) if spec.installed else ()
        return key_of(requirements, spec.base_id or spec.image, self.config.about, *profile)

    # --- installing ---------------------------------------------------------------------------

    async def _make(
        self, key: str, requirements: Requirements, spec: ContainerSpec, install: Install
    ) -> Layer:
        await self._load(spec)
        layer = self._layers.get(key)  # a server that has gone may have left it
        if layer is None:
            began = time.perf_counter()
            logger.info("installing %s", ", ".join(requirements))
            try:
                layer = await self._install(key, requirements, spec, install)
            except InstallError as error:
                self.observer.failed(error.failure)
                raise
            self.observer.installed(time.perf_counter() - began)
            logger.info("installed %s: %d KiB", ", ".join(requirements), layer.bytes >> 10)
            self._layers[key] = layer
            self._tell()
        # Before `_evict`, which might otherwise evict this very layer.
        install.hand_over(layer)
        self._evict()
        return layer

    async def _install(
        self, key: str, requirements: Requirements, spec: ContainerSpec, install: Install
    ) -> Layer:
        name = secrets.token_hex(_NAME_BYTES)
        now = time.time()
        about: JsonObject = {"key": key, "requirements": requirements, "used_at": now}
        installed = self._installer.installed(
            spec, requirements, name, self._labels(), install.on_line
        )
        async with installed as result:
            about["python"] = result.python
            await self._load(spec)
            async with self._volume.publishing(name, about) as publication:
                await result.collect(publication.write)
        return Layer(key, name, publication.bytes, requirements, now, time.monotonic())

    # --- keeping ------------------------------------------------------------------------------

    async def _load(self, spec: ContainerSpec) -> None:
        """Open the volume if it is not open, and make `_layers` hold exactly its layers."""
        if self._volume.is_running():
            return
        async with self._loading:
            # Two installations may come here at once. Without this second check, the later one
            # would restart the container that the earlier one uses by now.
            if self._volume.is_running():
                return
            found = await self._volume.load(spec)
            names = {str(about["name"]) for about in found}
            for layer in [one for one in self._layers.values() if one.name not in names]:
                del self._layers[layer.key]
            known = {layer.name for layer in self._layers.values()}
            now, twins = time.monotonic(), []
            for about in sorted(found, key=lambda about: float(str(about["used_at"]))):
                layer = layer_of(about, now)
                if layer.name in known:
                    continue
                if layer.key in self._layers:
                    twins.append(layer.name)
                else:
                    self._layers[layer.key] = layer
            self._tell()
            if twins:  # another server, which has gone, made the same layer, and we took it over
                await self._volume.remove(*twins)
        self._evict()

    def _evict(self) -> None:
        """Remove unused layers, the least recently used first, down to the limits."""
        over = self.bytes - self.config.limit_bytes
        too_many = len(self._layers) - self.config.limit_layers
        for layer in list(self._layers.values()) if over > 0 or too_many > 0 else ():
            if over <= 0 and too_many <= 0:
                return
            if not layer.users and layer.key not in self._pinned:
                over -= layer.bytes
                too_many -= 1
                self.observer.evicted()
                self._drop(layer)

    def _drop(self, layer: Layer) -> None:
        del self._layers[layer.key]
        self._noted.discard(layer.key)
        self._tell()
        self._spawn(self._remove(layer.name), "remove a layer")

    async def _remove(self, name: str) -> None:
        await self._volume.remove(name)
        await self._volume.note_use(self._take_notes())

    def _recheck(self, layer: Layer) -> None:
        """Start a check of the layer in the background, if the last was over `recheck_s` ago."""
        now = time.monotonic()
        if now - layer.checked_at > self.config.recheck_s and self._volume.is_running():
            layer.checked_at = now
            self._spawn(self._check(layer), "check a layer")

    async def _check(self, layer: Layer) -> None:
        await self.is_damaged(layer)

    def _tell(self) -> None:
        self.observer.kept(self.layers, self.bytes)

    def _take_notes(self) -> dict[str, float]:
        layers = [self._layers[key] for key in self._noted if key in self._layers]
        self._noted.clear()
        return {layer.name: layer.used_at for layer in layers}

    def _spawn(self, work: Coroutine[None, None, None], name: str) -> None:
        task = asyncio.create_task(self._quietly(work), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _quietly(self, work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except EngineError as error:
            logger.warning("the layers of dependencies: %s", error)
