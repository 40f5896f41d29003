"""The layers of dependencies: each set of requirements is installed once, and used from then on.

A layer is a directory on a volume that every sandbox mounts (docs/adr/0006). To find one that
is there is a look into a dictionary. What is not there is installed by one task, whoever and
however many wait for it; a waiter that goes cancels nothing for the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from pool.errors import (
    EngineError,
    InstallError,
    InstallFailure,
    LeaseTimeout,
    PoolClosed,
    PoolSaturated,
)
from pool.observer import LayerObserver
from pool.requirements import key_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Mapping

    from pool.installer import Installer
    from pool.keeper import Answer, Keeper
    from pool.pip_log import OnLine
    from pool.requirements import Requirements
    from pool.spec import ContainerSpec

logger = logging.getLogger(__name__)

_NAME_BYTES = 16
"""Of randomness, in a layer's name: nobody finds one by trying."""
_SHORT_TTL_S = 2.0
"""How long a failure counts that may be over at any moment."""
_MAX_FAILURES = 1024
_FLEETING = frozenset({InstallFailure.NO_NETWORK, InstallFailure.TOO_SLOW, InstallFailure.OTHER})
_BACKLOG_LINES = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class LayersConfig:
    """How layers are kept.

    `limit_bytes` bounds all of them together, `about` is what a layer depends on besides
    requirements and image (the index, say), `wait_s` how long a request waits for its layer,
    and `max_pending` how many sets may wait to be installed, of which one tenant may have
    `tenant_max_pending`.
    """

    limit_bytes: int = 4 << 30
    about: str = ""
    failure_ttl_s: float = 30.0
    concurrency: int = 2
    wait_s: float = 130.0
    max_pending: int = 32
    tenant_max_pending: int = 8
    recheck_s: float = 60.0


@dataclass(slots=True, eq=False)
class Layer:
    """One layer that is there. `name` is its directory's, and nobody else's business."""

    key: str
    name: str
    bytes: int
    requirements: Requirements
    used_at: float
    checked_at: float
    users: int = 0


@dataclass(slots=True, eq=False)
class _Install:
    """An installation that goes on or waits for its turn, and who waits for it."""

    tenant: str
    task: asyncio.Task[Layer] = field(init=False)
    running: bool = False
    waiters: int = 0
    layer: Layer | None = None  # once it is there, in use by each waiter
    listeners: list[OnLine] = field(default_factory=list)
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=_BACKLOG_LINES))

    def on_line(self, line: str) -> None:
        self.lines.append(line)
        for listener in self.listeners:
            listener(line)


@dataclass(frozen=True, slots=True)
class _Failed:
    message: str
    failure: InstallFailure
    log: str
    until: float

    def error(self) -> InstallError:
        return InstallError(self.message, self.failure, log=self.log)


class LayerStore:
    """All layers of one server. `labels` gives a container's labels."""

    def __init__(
        self,
        keeper: Keeper,
        installer: Installer,
        config: LayersConfig,
        labels: Callable[[], Mapping[str, str]],
        *,
        observer: LayerObserver | None = None,
    ) -> None:
        self.config = config
        self._keeper = keeper
        self._installer = installer
        self._labels = labels
        self.observer = observer or LayerObserver()
        self._layers: OrderedDict[str, Layer] = OrderedDict()  # least recently used first
        self._installs: dict[str, _Install] = {}
        self._failures: OrderedDict[str, _Failed] = OrderedDict()
        self._turn = asyncio.Semaphore(config.concurrency)
        self._loading = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._pinned: set[str] = set()
        self._noted: set[str] = set()  # used since the volume was told of it
        self._closed = False

    @property
    def bytes(self) -> int:
        """What all layers take on the volume."""
        return sum(layer.bytes for layer in self._layers.values())

    @property
    def layers(self) -> int:
        """How many layers there are."""
        return len(self._layers)

    async def open(self, spec: ContainerSpec) -> None:
        """Find what earlier servers left; where that is nothing, no keeper stays.

        Raises `EngineError`. Without it the first installation does the same.
        """
        await self._load(spec)
        if not self._layers and not self._installs:
            await self._keeper.close()

    def refuse(self) -> None:
        """Begin to close: install nothing any more. Who waits for that is told so."""
        self._closed = True
        for install in self._installs.values():
            install.task.cancel()

    async def close(self) -> None:
        """Cancel what is being installed, and end the keeper. What is kept stays kept."""
        self.refuse()
        for task in self._tasks:
            task.cancel()
        tasks = [install.task for install in self._installs.values()] + list(self._tasks)
        if tasks:
            await asyncio.wait(tasks)
        with contextlib.suppress(EngineError):
            if self._noted and self._keeper.is_running():
                await self._keeper.note_use(self._take_notes())
        await self._keeper.close()

    @contextlib.asynccontextmanager
    async def use(
        self,
        requirements: Requirements,
        spec: ContainerSpec,
        *,
        tenant: str = "",
        on_line: OnLine | None = None,
    ) -> AsyncIterator[Layer]:
        """Give a layer with the requirements, which stays as long as the block lasts.

        `spec` is that of the containers in which it is used. Where there is no such layer yet
        it is installed, and `on_line` hears each of the installer's lines. Raises
        `InstallError`; `LeaseTimeout` when that takes longer than `wait_s`, `PoolSaturated`
        when too many sets are waiting already, `PoolClosed`, `EngineError`.
        """
        key = self.key(requirements, spec)
        layer = self._layers.get(key)
        if layer is None:
            layer = await self._wait(key, requirements, spec, tenant, on_line)
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
        """Have a layer, and keep it whatever else is used. Raises what `use` raises."""
        async with self.use(requirements, spec) as layer:
            self._pinned.add(layer.key)
            return layer

    async def is_damaged(self, layer: Layer) -> bool:
        """Whether a layer is no longer what it was; if so, it is gone, and can be made anew."""
        try:
            sound = await self._keeper.check(layer.name)
        except EngineError:
            sound = False  # it is not to be had, whatever it is
        layer.checked_at = time.monotonic()
        if not sound and self._layers.get(layer.key) is layer:
            logger.warning("a layer of dependencies was damaged: %s", ", ".join(layer.requirements))
            self.observer.damaged()
            self._drop(layer)
        return not sound

    def key(self, requirements: Requirements, spec: ContainerSpec) -> str:
        """Return by what a layer is known; the image's digest stands for Python and libc."""
        return key_of(requirements, spec.base_id or spec.image, self.config.about)

    # --- waiting, and installing --------------------------------------------------------------

    async def _wait(
        self,
        key: str,
        requirements: Requirements,
        spec: ContainerSpec,
        tenant: str,
        on_line: OnLine | None,
    ) -> Layer:
        """Wait for a layer, which is then in use by the caller."""
        self.observer.missed()
        install = self._installs.get(key)
        if install is None:
            install = self._begin(key, requirements, spec, tenant)
        elif on_line is not None:
            for line in install.lines:
                on_line(line)
        if on_line is not None:
            install.listeners.append(on_line)
        install.waiters += 1
        try:
            return await self._patiently(install, requirements)
        except BaseException:
            if install.layer is not None:
                install.layer.users -= 1
            raise
        finally:
            install.waiters -= 1
            if on_line is not None:
                install.listeners.remove(on_line)
            # What has begun comes to its end, within its limits, for whoever asks next.
            if not install.waiters and not install.running:
                self._forget(key, install)
                install.task.cancel()

    async def _patiently(self, install: _Install, requirements: Requirements) -> Layer:
        wait_s = self.config.wait_s
        done, _ = await asyncio.wait([install.task], timeout=wait_s)
        if not done:
            message = f"{', '.join(requirements)} could not be installed within {wait_s:g} s"
            raise LeaseTimeout(message, retry_after_s=wait_s / 4)
        if install.task.cancelled():
            raise PoolClosed("the pool was closed")
        if isinstance(error := install.task.exception(), InstallError):
            raise InstallError(str(error), error.failure, log=error.log)  # for each its own
        return install.task.result()

    def _begin(
        self, key: str, requirements: Requirements, spec: ContainerSpec, tenant: str
    ) -> _Install:
        if self._closed:
            raise PoolClosed("the pool takes no new leases")
        failed = self._failures.get(key)
        if failed is not None and failed.until > _now():
            raise failed.error()
        of_tenant = sum(one.tenant == tenant for one in self._installs.values())
        if (
            len(self._installs) >= self.config.max_pending
            or of_tenant >= self.config.tenant_max_pending
        ):
            message = f"{of_tenant or len(self._installs)} installations are waiting already"
            raise PoolSaturated(message, retry_after_s=5.0)
        install = _Install(tenant)
        work = self._run(key, requirements, spec, install)
        install.task = asyncio.create_task(work, name=f"install {key[:12]}")
        self._installs[key] = install
        install.task.add_done_callback(lambda task: self._ended(key, install, task))
        return install

    def _ended(self, key: str, install: _Install, task: asyncio.Task[Layer]) -> None:
        self._forget(key, install)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, InstallError):
            fleeting = error.failure in _FLEETING
            ttl_s = min(self.config.failure_ttl_s, _SHORT_TTL_S if fleeting else 1e9)
            self._failures[key] = _Failed(str(error), error.failure, error.log, _now() + ttl_s)
            self._failures.move_to_end(key)
            if len(self._failures) > _MAX_FAILURES:
                self._failures.popitem(last=False)
            self.observer.failed(error.failure)

    def _forget(self, key: str, install: _Install) -> None:
        if self._installs.get(key) is install:
            del self._installs[key]

    async def _run(
        self, key: str, requirements: Requirements, spec: ContainerSpec, install: _Install
    ) -> Layer:
        async with self._turn:
            install.running = True
            await self._load(spec)
            layer = self._layers.get(key)
            if layer is None:
                began = time.perf_counter()
                layer = await self._install(key, requirements, spec, install)
                self.observer.installed(time.perf_counter() - began)
                logger.info("installed %s: %d KiB", ", ".join(requirements), layer.bytes >> 10)
                self._layers[key] = layer
                self._tell()
        self._failures.pop(key, None)
        install.layer = layer
        layer.users += install.waiters
        self._evict()
        return layer

    async def _install(
        self, key: str, requirements: Requirements, spec: ContainerSpec, install: _Install
    ) -> Layer:
        name = secrets.token_hex(_NAME_BYTES)
        now = time.time()
        about: Answer = {"key": key, "requirements": requirements, "used_at": now}
        installed = self._installer.installed(
            spec, requirements, name, self._labels(), install.on_line
        )
        async with installed as result:
            about["python"] = result.python
            await self._load(spec)
            async with self._keeper.publishing(name, about) as publication:
                await result.collect(publication.write)
        return Layer(key, name, publication.bytes, requirements, now, time.monotonic())

    # --- what is kept -------------------------------------------------------------------------

    async def _load(self, spec: ContainerSpec) -> None:
        """Start the keeper if there is none, and believe what it says is there."""
        if self._keeper.is_running():
            return
        async with self._loading:
            if self._keeper.is_running():
                return
            found = await self._keeper.load(spec)
            names = {str(about["name"]) for about in found}
            for layer in [one for one in self._layers.values() if one.name not in names]:
                del self._layers[layer.key]
            known = {layer.name for layer in self._layers.values()}
            now, twins = time.monotonic(), []
            for about in sorted(found, key=lambda about: float(str(about["used_at"]))):
                layer = _layer_of(about, now)
                if layer.name in known:
                    continue
                if layer.key in self._layers:
                    twins.append(layer.name)
                else:
                    self._layers[layer.key] = layer
            self._tell()
            if twins:  # two servers had the same, and one of them is gone
                await self._keeper.remove(*twins)
        self._evict()

    def _evict(self) -> None:
        """Remove the least recently used layers that no one uses, down to the limit."""
        over = self.bytes - self.config.limit_bytes
        for layer in list(self._layers.values()) if over > 0 else ():
            if over <= 0:
                return
            if not layer.users and layer.key not in self._pinned:
                over -= layer.bytes
                self.observer.evicted()
                self._drop(layer)

    def _drop(self, layer: Layer) -> None:
        del self._layers[layer.key]
        self._noted.discard(layer.key)
        self._tell()
        self._spawn(self._remove(layer.name), "remove a layer")

    async def _remove(self, name: str) -> None:
        await self._keeper.remove(name)
        await self._keeper.note_use(self._take_notes())

    def _recheck(self, layer: Layer) -> None:
        """See, now and then and behind nobody's back, whether a layer is what it was."""
        now = time.monotonic()
        if now - layer.checked_at > self.config.recheck_s and self._keeper.is_running():
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


def _layer_of(about: Answer, now: float) -> Layer:
    requirements = cast("list[str]", about["requirements"])
    return Layer(
        str(about["key"]),
        str(about["name"]),
        int(str(about["bytes"])),
        tuple(requirements),
        float(str(about["used_at"])),
        now,
    )


def _now() -> float:
    return asyncio.get_running_loop().time()
