"""Install dependencies in a throw-away container.

Packages may run code there, and find no secret but the credentials of the index, if there are any.
The container has a network and limits of its own, but neither the volume nor anything of a
tenant's. The installed files leave it as records, which the server checks.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pool.container import Container
from pool.dependencies.archive import ArchiveError, Bounds, Inspector
from pool.dependencies.pip_log import PipLog, classify, missing_package
from pool.dependencies.throttle import Throttle
from pool.dependencies.unfit import unfit_builds
from pool.engine.api import Engine
from pool.engine.cleanup import until_removed
from pool.engine.sources import program
from pool.engine.spec import LAYERS_DIR, Limits, installer_document
from pool.errors import InstallError, InstallFailure
from pool.inside.compiling import BUDGET_S
from pool.language import PYTHON

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from pool.dependencies.pip_log import OnLine
    from pool.dependencies.requirements import Requirements
    from pool.engine.spec import ContainerSpec

    OnData = Callable[[bytes], Awaitable[None]]

_USER = "9999:9999"
_STDOUT = 1
_MAX_ANSWER_BYTES = 256 << 10
_TEMPORARY = "/tmp"  # noqa: S108 - the container's own
_NOT_FOUND = (InstallFailure.NO_PACKAGE, InstallFailure.NO_VERSION, InstallFailure.CONFLICT)
_READY = f"{_TEMPORARY}/pgexec-ready"


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallerConfig:
    """The limits of an installation, and its way to the index; sizes in bytes.

    - `environment`: variables for pip; `secrets`: parts of their values that no log may show
    - `denied`: packages that are not installed, not even as a dependency of another
    - `network`: the network of the container (`""`: the snippets' network); `guard`: its rules
    """

    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: Sequence[str] = ()
    denied: frozenset[str] = frozenset()
    network: str = ""
    guard: Mapping[str, object] | None = None
    timeout_s: float = 120.0
    start_timeout_s: float = 30.0
    limit_bytes: int = 512 << 20
    memory_bytes: int = 1 << 30
    pids: int = 256
    cpus: float = 2.0


class CommandEngine(Engine, Protocol):
    """An engine that can also run commands in its containers."""

    async def follow(
        self,
        container_id: str,
        command: Sequence[str],
        *,
        user: str,
        environment: Mapping[str, str],
        on_output: Callable[[int, bytes], Awaitable[None]],
    ) -> int:
        """Run a command in a running container, without a timeout; return its exit status.

        `on_output` gets each piece of output, with the number of its stream, and is awaited before
        more is read. If it raises, the reading ends, but the command goes on.
        """
        ...


class Installer:
    """Installs one set of requirements at a time in a container of its own."""

    def __init__(self, engine: CommandEngine, config: InstallerConfig) -> None:
        self.config = config
        self._engine = engine
        self._source = program("pip_install")
        self._removals: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def installed(
        self,
        spec: ContainerSpec,
        requirements: Requirements,
        name: str,
        labels: Mapping[str, str],
        on_line: OnLine,
    ) -> AsyncIterator[Installed]:
        """Install in a new container, and yield the layer; remove the container afterwards.

        `spec` describes the containers that will use the layer; `name` is the layer's name. Raises
        `InstallError`, and the errors of `Container.start`.
        """
        config = self.config
        network, guard = spec.network, spec.guard
        if config.network:
            network, guard = config.network, config.guard
        if network == "none":
            raise InstallError(
                "dependencies need a network, and PGEXEC_NETWORK is none; "
                "PGEXEC_DEPENDENCY_NETWORK can give them one",
                InstallFailure.NO_NETWORK,
            )
        limits = Limits(
            memory_bytes=config.memory_bytes,
            cpus=config.cpus,
            pids=config.pids,
            disk_bytes=config.limit_bytes,
        )
        document = installer_document(spec, limits, network=network, guard=guard, labels=labels)
        await self.settle()  # an installer that still goes takes memory, too
        container = await Container.start(self._engine, document, timeout_s=config.start_timeout_s)
        records = _Records(Inspector(f"{LAYERS_DIR}/{name}", Bounds(config.limit_bytes)))
        sending = asyncio.create_task(self._send(container, name, records), name="send a layer")
        try:
            try:
                async with asyncio.timeout(config.timeout_s):
                    await self._install(container, spec, requirements, name, on_line)
            except TimeoutError as error:
                sentence = (
                    f"{_wanted(requirements)} took over {config.timeout_s:g} s to install; "
                    "PGEXEC_INSTALL_TIMEOUT_S gives it more"
                )
                raise InstallError(sentence, InstallFailure.TOO_SLOW) from error
            yield Installed(self, container, requirements, on_line, records, sending)
        finally:
            sending.cancel()
            sending.add_done_callback(lambda task: task.cancelled() or task.exception())
            # Not awaited: a request would wait for it.
            removal = asyncio.create_task(until_removed(container.id, container.destroy))
            self._removals.add(removal)
            removal.add_done_callback(self._removals.discard)

    async def settle(self) -> None:
        """Wait until the containers of all installations that have ended are removed."""
        while self._removals:
            await asyncio.wait(self._removals)

    async def _install(
        self,
        container: Container,
        spec: ContainerSpec,
        requirements: Requirements,
        name: str,
        on_line: OnLine,
    ) -> None:
        log = PipLog(self.config.secrets, on_line)
        denied = [f"{one}<0.dev0" for one in sorted(self.config.denied)]
        work = {
            "do": "install",
            "base": f"{LAYERS_DIR}/{name}",
            "requirements": requirements,
            "constraints": [*denied, *spec.installed],
            "profile": f"{LAYERS_DIR}/{spec.preload}",
            "ready": _READY,
            "installed": _taken_as_installed(spec, requirements),
        }
        status = await self._execute(container, work, log.add)
        if status != 0:
            failure, sentence = classify(log.text, status, self.config.denied)
            if failure is InstallFailure.CONFLICT and _is_of(spec.installed, log.text):
                sentence = "it does not go with the versions that the language has"
            if failure in _NOT_FOUND:
                found = await self._not_found(container, log.text, requirements, failure)
                sentence = found or sentence
            wanted = _wanted(requirements)
            raise InstallError(
                f"could not install {wanted}: {sentence}", failure, log="\n".join(log.last)
            )

    async def _not_found(
        self,
        container: Container,
        text: str,
        requirements: Requirements,
        failure: InstallFailure,
    ) -> str | None:
        """Look whether a package that pip did not find has builds for other interpreters."""
        missing = missing_package(text)
        if missing is None:
            return None
        answer = bytearray()

        async def hear(stream: int, data: bytes) -> None:
            if stream == _STDOUT:
                answer.extend(data[: _MAX_ANSWER_BYTES - len(answer)])

        work = {"do": "look", "base": "", "requirements": [missing.name]}
        await self._execute(container, work, hear)
        is_found = b'"found": true' in answer
        if is_found and failure is InstallFailure.CONFLICT:
            return None  # pip names what it has no version of that suits everybody
        if (sentence := unfit_builds(missing, bytes(answer))) is not None:
            return sentence
        name = canonicalize_name(missing.name)
        if not is_found and all(
            canonicalize_name(Requirement(one).name) != name for one in requirements
        ):
            return f"it needs {missing}, which the index does not have"
        return None

    async def _send(self, container: Container, name: str, records: _Records) -> None:
        """Let the container send its layer, once it is installed. Raises `ArchiveError`."""
        base, limit = f"{LAYERS_DIR}/{name}", self.config.limit_bytes
        work = {"do": "send", "base": base, "limit_bytes": limit, "ready": _READY}
        status = await self._execute(container, work, records.check)
        if status != 0 or not records.inspector.complete:
            # If the engine were the reason, it would have raised: this is what the package made.
            raise ArchiveError("its files could not be read to their end")

    async def _execute(
        self,
        container: Container,
        work: Mapping[str, object],
        on_output: Callable[[int, bytes], Awaitable[None]],
    ) -> int:
        throttle = Throttle()

        async def hear(stream: int, data: bytes) -> None:
            await on_output(stream, data)
            if stream != _STDOUT or work["do"] != "send":  # a layer is bounded as a whole
                await throttle.take(len(data))

        environment = {"HOME": _TEMPORARY, "TMPDIR": _TEMPORARY, "PYTHONPATH": ""}
        return await self._engine.follow(
            container.id,
            PYTHON.run_text(self._source, json.dumps(work), options=PYTHON.isolated),
            user=_USER,
            environment={**environment, **self.config.environment},
            on_output=hear,
        )


class _Records:
    """The records of a layer, which are checked, and wait until somebody takes them."""

    def __init__(self, inspector: Inspector) -> None:
        self.inspector = inspector
        self.taker: asyncio.Future[OnData] = asyncio.get_running_loop().create_future()

    async def check(self, stream: int, data: bytes) -> None:
        if stream == _STDOUT:
            take = await self.taker
            await take(b"".join(self.inspector.feed(data)))


@dataclass(frozen=True, slots=True)
class Installed:
    """An installed layer, which only its container has so far."""

    installer: Installer
    container: Container
    requirements: Requirements
    on_line: OnLine
    records: _Records
    sending: asyncio.Task[None]

    @property
    def python(self) -> str:
        """The version of Python for which the layer was installed."""
        return str(self.container.runner.get("python", ""))

    async def collect(self, on_data: OnData) -> None:
        """Pass the checked records of the layer on to `on_data`.

        Raises `InstallError` if an entry must not be published, or if it takes too long.
        """
        wanted = _wanted(self.requirements)
        self.on_line("Storing what was installed, and compiling it meanwhile")
        try:
            # What compiling may take does not count.
            async with asyncio.timeout(self.installer.config.timeout_s + BUDGET_S):
                self.records.taker.set_result(on_data)
                await self.sending
                layer = self.records.inspector
                self.on_line(f"Stored {layer.entries} files, {layer.bytes / (1 << 20):.1f} MiB")
        except ArchiveError as error:
            sentence = f"{wanted} cannot be used: {error}"
            large = str(error).startswith("it has over")
            failure = InstallFailure.TOO_LARGE if large else InstallFailure.BAD_LAYER
            raise InstallError(sentence, failure) from error
        except TimeoutError as error:
            raise InstallError(
                f"{wanted} took too long to store", InstallFailure.TOO_SLOW
            ) from error


def _taken_as_installed(
    spec: ContainerSpec, requirements: Requirements
) -> dict[str, Sequence[str]]:
    """Return the packages of a profile that pip need not install again, with their extras.

    A package whose extras are asked for and not known is installed, in the same version: pip has to
    read which packages an extra needs.
    """
    extras = spec.extras or {}
    asked = {canonicalize_name(Requirement(one).name) for one in requirements}
    by_name = {one.partition("==")[0]: one for one in spec.installed}
    return {
        one: extras.get(name, ())
        for name, one in by_name.items()
        if name in extras or name not in asked
    }


def _is_of(installed: Sequence[str], text: str) -> bool:
    """Return True if pip says that a version of the profile has a part in a conflict."""
    return any(f"(constraint) {one}" in text for one in installed)


def _wanted(requirements: Requirements) -> str:
    return ", ".join(requirements)
