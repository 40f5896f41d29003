"""Installations in progress, and those that wait for their turn.

One task makes a layer for all requests that wait for it. A request that gives up cancels nothing
for the others. A failure is remembered for a while: the next request for the same set gets it at
once.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pool.dependencies.turns import Turns
from pool.errors import InstallError, InstallFailure, LeaseTimeout, PoolClosed, PoolSaturated
from pool.tenant import owner

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pool.dependencies.layer import Layer, LayersConfig
    from pool.dependencies.pip_log import OnLine
    from pool.dependencies.requirements import Requirements

    Make = Callable[["Install"], Awaitable[Layer]]

_SHORT_TTL_S = 2.0
"""A failure that may soon be over (`_FLEETING`) is remembered for so many seconds at most."""
_MAX_FAILURES = 1024
_FLEETING = frozenset({InstallFailure.NO_NETWORK, InstallFailure.TOO_SLOW, InstallFailure.OTHER})
_BACKLOG_LINES = 200


@dataclass(slots=True, eq=False)
class Install:
    """One installation, in progress or waiting for its turn, and the requests that wait for it."""

    tenants: Counter[str] = field(default_factory=Counter)  # of those that wait
    task: asyncio.Task[Layer] = field(init=False)
    running: bool = False
    gave_way: int = 0  # if another tenant took its place: the number that its tenant had
    layer: Layer | None = None  # set when it is made; each waiter then uses it
    listeners: list[OnLine] = field(default_factory=list)
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=_BACKLOG_LINES))

    def on_line(self, line: str) -> None:
        """Pass a line of the installer on to each request that listens."""
        self.lines.append(line)
        for listener in self.listeners:
            listener(line)

    def hand_over(self, layer: Layer) -> None:
        """Count the layer as used by each waiter.

        A waiter wakes up later. Without this, the layer could be evicted before that.
        """
        self.layer = layer
        layer.users += self.tenants.total()


class Installs:
    """All installations of one server, by the keys of their layers."""

    def __init__(self, config: LayersConfig) -> None:
        self._config = config
        self._installs: dict[str, Install] = {}
        self._failures = _Failures(config.failure_ttl_s)
        self._turns = Turns(config.concurrency)
        self._closed = False

    def __len__(self) -> int:
        return len(self._installs)

    def refuse(self) -> None:
        """Begin no installation any more, and cancel the present ones."""
        self._closed = True
        for install in self._installs.values():
            install.task.cancel()

    def tasks(self) -> list[asyncio.Task[Layer]]:
        """Return the task of each installation."""
        return [install.task for install in self._installs.values()]

    async def wait(
        self,
        key: str,
        requirements: Requirements,
        make: Make,
        *,
        tenant: str,
        on_line: OnLine | None,
    ) -> Layer:
        """Wait until the layer is made, by an installation in progress or a new one.

        `make` makes the layer and hands it over to the installation. The caller uses the returned
        layer, and must count `users` down afterwards. Raises the errors of `LayerStore.use`.
        """
        install = self._installs.get(key)
        if install is None:
            install = self._begin(key, make, tenant)
        elif on_line is not None:
            for line in install.lines:
                on_line(line)
        if on_line is not None:
            install.listeners.append(on_line)
        install.tenants[tenant] += 1
        self._turns.serve()  # it may be this tenant's turn, although not that of the others
        try:
            return await self._patiently(install, requirements)
        except BaseException:
            # Cancelled after the hand-over, before this waiter woke up. Without this, the layer
            # would count as used for ever, and never be evicted.
            if install.layer is not None:
                install.layer.users -= 1
            raise
        finally:
            install.tenants[tenant] -= 1
            install.tenants += Counter()  # drops those of which nobody waits any more
            if on_line is not None:
                install.listeners.remove(on_line)
            # An installation that runs already goes on to its end, for the next request.
            if not install.tenants and not install.running:
                self._forget(key, install)
                install.task.cancel()

    async def _patiently(self, install: Install, requirements: Requirements) -> Layer:
        wait_s = self._config.wait_s
        done, _ = await asyncio.wait([install.task], timeout=wait_s)
        if not done:
            message = (
                f"{', '.join(requirements)} could not be installed within {wait_s:g} s; an "
                "installation that has begun goes on, and a later request finds it done"
            )
            raise LeaseTimeout(message, retry_after_s=wait_s / 4)
        if install.task.cancelled():
            if install.gave_way:
                raise _too_many(install.gave_way)
            raise PoolClosed("the pool was closed")
        if isinstance(error := install.task.exception(), InstallError):
            # A new error for each waiter: each raise adds its frames to the error's traceback.
            raise InstallError(str(error), error.failure, log=error.log)
        return install.task.result()

    def _begin(self, key: str, make: Make, tenant: str) -> Install:
        if self._closed:
            raise PoolClosed("the pool takes no new leases")
        if (error := self._failures.recent(key)) is not None:
            raise error
        of_tenant = sum(tenant in install.tenants for install in self._installs.values())
        if of_tenant >= self._config.tenant_max_pending or not self._has_room(tenant):
            raise _too_many(of_tenant or len(self._installs))
        install = Install()
        install.task = asyncio.create_task(
            self._run(key, make, install), name=f"install {key[:12]}"
        )
        self._installs[key] = install
        install.task.add_done_callback(lambda task: self._ended(key, install, task))
        return install

    def _has_room(self, tenant: str) -> bool:
        """Return True if one more may wait; the tenant with the most may have to give up one."""
        if len(self._installs) < self._config.max_pending:
            return True
        owners = {key: {*map(owner, one.tenants)} for key, one in self._installs.items()}
        count = Counter(name for names in owners.values() for name in names if name)
        waiting = [
            (max(count[name] for name in owners[key]), number, key, install)
            for number, (key, install) in enumerate(self._installs.items())
            if not install.running and len(owners[key]) == 1
        ]
        many, _, key, install = max(waiting, key=lambda one: one[:2], default=(0, 0, "", None))
        if install is None or many <= count[owner(tenant)] + 1:
            return False
        install.gave_way = many
        self._forget(key, install)
        install.task.cancel()
        return True

    async def _run(self, key: str, make: Make, install: Install) -> Layer:
        async with self._turns.of(install.tenants):
            install.running = True
            layer = await make(install)
        self._failures.forget(key)
        return layer

    def _ended(self, key: str, install: Install, task: asyncio.Task[Layer]) -> None:
        self._forget(key, install)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, InstallError):
            self._failures.remember(key, error)

    def _forget(self, key: str, install: Install) -> None:
        # A new installation of the same set may have taken the place of a cancelled one.
        if self._installs.get(key) is install:
            del self._installs[key]


def _too_many(waiting: int) -> PoolSaturated:
    message = (
        f"{waiting} installations are waiting already; "
        "PGEXEC_DEPENDENCY_PRELOAD has sets installed at the start"
    )
    return PoolSaturated(message, retry_after_s=5.0)


@dataclass(frozen=True, slots=True)
class _Failed:
    message: str
    failure: InstallFailure
    log: str
    until: float


class _Failures:
    """The failures of the last `ttl_s` seconds, by the keys of the layers."""

    def __init__(self, ttl_s: float) -> None:
        self._ttl_s = ttl_s
        self._failed: OrderedDict[str, _Failed] = OrderedDict()  # oldest first

    def recent(self, key: str) -> InstallError | None:
        """Return a new error for the failure of a set, or `None` if there is none that counts."""
        failed = self._failed.get(key)
        if failed is None or failed.until <= _now():
            return None
        return InstallError(failed.message, failed.failure, log=failed.log)

    def remember(self, key: str, error: InstallError) -> None:
        """Remember a failure, for `ttl_s` seconds or, if it may soon be over, `_SHORT_TTL_S`."""
        ttl_s = min(self._ttl_s, _SHORT_TTL_S if error.failure in _FLEETING else 1e9)
        self._failed[key] = _Failed(str(error), error.failure, error.log, _now() + ttl_s)
        self._failed.move_to_end(key)
        if len(self._failed) > _MAX_FAILURES:
            self._failed.popitem(last=False)

    def forget(self, key: str) -> None:
        """Forget the failure of a set, which is installed now."""
        self._failed.pop(key, None)


def _now() -> float:
    return asyncio.get_running_loop().time()
