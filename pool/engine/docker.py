"""The Docker engine, through aiodocker, whose errors are translated here."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
from typing import TYPE_CHECKING

import aiohttp
from aiodocker.exceptions import DockerError
from yarl import URL

from pool.engine import architectures, podman
from pool.engine.address import connector_to
from pool.engine.api import CreateDocument, EngineObserver, ExecResult, Failure, Operation, Owned
from pool.engine.cleanup import see_through, until_removed
from pool.engine.negotiation import Negotiating
from pool.engine.refusals import NOT_FOUND, mapped_errors
from pool.engine.stream import AttachedStream, EngineStream
from pool.errors import ContainerLost, EngineError, EngineUnavailable
from pool.language import PYTHON

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence

    from aiodocker.containers import DockerContainer

_CONFLICT = 409
_DOWN = frozenset({"created", "exited", "dead"})
_CREATE_TIMEOUT_S = 120.0
"""An engine that hangs for a while still creates the container afterwards: wait so many seconds
for it, and remove it."""
_REMOVE_TIMEOUT_S = 30.0
_NEWS_S = 0.5


class DockerEngine:
    """A Docker (or Podman) engine.

    `streams` is the greatest number of containers attached at once: each holds a connection.
    `observer` hears of each call and counts the streams' bytes; the caller may replace it. Every
    method raises `EngineError` or one of its children. The constructor raises `OSError` if it
    cannot read the certificates for the address.
    """

    def __init__(self, url: str, *, streams: int, timeout_s: float = 60.0) -> None:
        self.url = url
        self.observer = EngineObserver()
        self._making_network = asyncio.Lock()
        self._is_podman = False
        self._profiles: dict[str, str] = {}  # their paths on Podman's machine, by their text
        self._publishing = asyncio.Lock()
        connector, address = connector_to(url, limit=streams * 2 + 32)
        timeout = aiohttp.ClientTimeout(total=timeout_s)
        watch = aiohttp.TraceConfig()
        watch.on_request_end.append(self._recognise)
        self._session = aiohttp.ClientSession(
            connector=connector, timeout=timeout, trace_configs=[watch]
        )
        self.docker = Negotiating(
            address, connector=connector, session=self._session, timeout=timeout
        )

    async def close(self) -> None:
        """Close every connection to the engine."""
        await self.docker.close()
        await self._session.close()

    def renegotiate(self) -> None:
        """Ask for the API's version again: an engine may come back as another version."""
        self.docker.api_version = "auto"
        self._profiles.clear()

    async def version(self) -> dict[str, object]:
        """Return the engine's answer about its version."""
        with self._call(Operation.VERSION):
            return await self.docker.version()

    async def info(self) -> dict[str, object]:
        """Return the engine's answer about its machine and its configuration."""
        with self._call(Operation.INFO):
            return dict(await self.docker.system.info())

    async def start(self, document: CreateDocument) -> tuple[str, AttachedStream]:
        """Create, attach to and start a container. Raises only when nothing of it is left."""
        creation = asyncio.create_task(self._create(document), name="create a container")
        try:
            container = await asyncio.shield(creation)
        except asyncio.CancelledError:
            # The engine may still create the container: wait for that, then remove it.
            await see_through(self._discard(creation))
            raise
        connection = self._attach(container.id)
        stream = AttachedStream(connection, self.observer)
        try:
            with self._call(Operation.ATTACH):
                await connection.open()  # attach before start, or lose output
            with self._call(Operation.START):
                await container.start()
        except BaseException:
            await see_through(self._give_up(container.id, stream))
            raise
        return container.id, stream

    async def remove(self, container_id: str) -> None:
        """Kill and remove a container, and see it gone; one that is gone already is a success."""
        try:
            with self._call(Operation.REMOVE):
                async with asyncio.timeout(_REMOVE_TIMEOUT_S):
                    await self._remove(container_id)
        except EngineUnavailable as error:
            if isinstance(error.__cause__, TimeoutError):
                sentence = f"remove: no answer in {_REMOVE_TIMEOUT_S:g} s"
                raise EngineUnavailable(sentence) from error
            raise

    async def ran_out_of_memory(self, container_id: str, since: float) -> bool:
        """Return True if the engine has seen that a container, which may have gone, did so.

        `since` is a time of `time.time()`. Waits a moment for the news, which may come late.
        """
        parameters = {
            "since": f"{since:.6f}",
            "until": f"{time.time() + _NEWS_S:.6f}",
            "filters": json.dumps({"container": [container_id], "event": ["oom"]}),
        }
        with self._call(Operation.EVENTS):
            # aiodocker's own events are one endless stream of all.
            events = self.docker._query("events", params=parameters)  # noqa: SLF001
            async with events as answer:
                return bool(await answer.content.readline())

    async def owned(self, label: str) -> Sequence[Owned]:
        """List the containers with a label (`name` or `name=value`), running or not."""
        with self._call(Operation.LIST):
            containers = await self.docker.containers.list(all=True, filters={"label": [label]})
        return [
            Owned(entry["Id"], entry["Labels"], entry["State"] not in _DOWN) for entry in containers
        ]

    async def paused(self, label: str) -> Sequence[str]:
        """List the ids of the containers with a label that somebody has paused."""
        wanted = {"label": [label], "status": ["paused"]}
        with self._call(Operation.LIST):
            found = await self.docker._query_json(  # noqa: SLF001 - `list` inspects each
                "containers/json", params={"filters": json.dumps(wanted)}
            )
            return [str(entry["Id"]) for entry in found]

    async def image_id(self, name: str) -> str:
        """Return the id of the local image `name`, or `""` if there is none."""
        with self._call(Operation.INSPECT):
            try:
                return str((await self.docker.images.inspect(name))["Id"])
            except DockerError as error:
                if error.status != NOT_FOUND:
                    raise
                return ""

    async def foreign(self, name: str) -> str:
        """Return a sentence if a local image is for other processors than the engine's, else `""`.

        Also `""` if the image or the engine does not tell its architecture.
        """
        with self._call(Operation.INSPECT):
            its = str((await self.docker.images.inspect(name)).get("Architecture") or "")
        engines = str((await self.version()).get("Arch") or "")
        if not (wrong := architectures.mismatch(its, engines)):
            return ""
        return f"{name} is {wrong}: docker pull --platform linux/{engines} {name}"

    async def pull(self, name: str) -> AsyncIterator[str]:
        """Pull an image, yielding a line for each step that the engine reports."""
        with self._call(Operation.PULL, f"pull {name}"):
            async for step in self.docker.images.pull(name, stream=True):
                line = " ".join(str(step[key]) for key in ("id", "status") if step.get(key))
                if "progressDetail" not in step or not step["progressDetail"]:
                    yield line

    async def commit(
        self, container_id: str, repository: str, tag: str, *, labels: Mapping[str, str]
    ) -> None:
        """Make an image of a container, with `labels` and the interpreter as its command."""
        changes = [
            f"LABEL {json.dumps(name)}={json.dumps(value)}" for name, value in labels.items()
        ]
        with self._call(Operation.COMMIT):
            await self.docker.containers.container(container_id).commit(
                repository=repository,
                tag=tag,
                changes=[*changes, f"CMD {json.dumps([PYTHON.interpreter])}"],
                config={},  # Podman refuses a request without a body
            )

    async def remove_images(self, label: str, *, keep: str, replaced_before: float) -> None:
        """Remove the images with `label` that no container uses and another replaced long ago.

        The one made next after an image replaces it. If that was made at `replaced_before` or
        later, by `time.time()`, the image stays, and so does the newest, and `keep`.
        """
        kept = await self.image_id(keep)
        with self._call(Operation.LIST_IMAGES, "list images"):
            images = await self.docker.images.list(filters={"label": [label]})
        images.sort(key=lambda image: image["Created"])
        for image, following in itertools.pairwise(images):
            # By its id: Podman lists `docker.io/library/` before a tag that was given without.
            is_kept = image["Id"] == kept or keep in (image["RepoTags"] or ())
            if following["Created"] < replaced_before and not is_kept:
                with contextlib.suppress(DockerError):
                    await self.docker.images.delete(image["Id"])

    async def ensure_network(self, name: str, label: str) -> None:
        """Create the bridge network `name`, without traffic between containers, if need be."""
        # Without the lock, two callers may both find none, and the engine may create two.
        async with self._making_network:
            await self._ensure_network(name, label)

    async def _ensure_network(self, name: str, label: str) -> None:
        with self._call(Operation.NETWORK):
            try:
                await self.docker.networks.get(name)
            except DockerError as error:
                if error.status != NOT_FOUND:
                    raise
                await self.docker.networks.create(
                    {
                        "Name": name,
                        "Driver": "bridge",
                        "CheckDuplicate": True,
                        "Labels": {label: ""},
                        "Options": {"com.docker.network.bridge.enable_icc": "false"},
                    }
                )

    async def ensure_volume(self, name: str, label: str) -> None:
        """Create the volume `name` on the engine's machine, if it is missing."""
        with self._call(Operation.VOLUME):
            await self.docker._query_json(  # noqa: SLF001 - aiodocker's `create` is untyped
                "volumes/create", "POST", data={"Name": name, "Labels": {label: ""}}
            )

    async def execute(
        self,
        container_id: str,
        command: Sequence[str],
        *,
        user: str,
        environment: Mapping[str, str],
    ) -> ExecResult:
        """Run a command in a running container; its output is both streams in order of arrival."""
        output = bytearray()

        async def add(_stream: int, data: bytes) -> None:
            output.extend(data)

        status = await self.follow(
            container_id, command, user=user, environment=environment, on_output=add
        )
        return ExecResult(status, bytes(output))

    async def follow(
        self,
        container_id: str,
        command: Sequence[str],
        *,
        user: str,
        environment: Mapping[str, str],
        on_output: Callable[[int, bytes], Awaitable[None]],
    ) -> int:
        """Run a command in a running container; return its exit status.

        `on_output` gets each piece of output, with the number of its stream (1 or 2). Raises
        `ContainerLost` if the container ends first.
        """
        with self._call(Operation.EXEC):
            container = self.docker.containers.container(container_id)
            execution = await container.exec(
                list(command), user=user, environment=dict(environment)
            )
            body = b'{"Detach": false, "Tty": false}'
            async with self._stream(f"exec/{execution.id}/start", body) as stream:
                while message := await stream.read_out():
                    await on_output(message.stream, message.data)
            about = await execution.inspect()
        if about["ExitCode"] is None:
            raise ContainerLost("the container ended while a command ran in it")
        return int(about["ExitCode"])

    @contextlib.contextmanager
    def _call(self, operation: Operation, doing: str = "") -> Iterator[None]:
        """Translate the errors of one call, and tell the observer how it ended."""
        began = time.perf_counter()
        failure: Failure | None = Failure.CANCELLED
        try:
            with mapped_errors(operation, self.url, doing):
                yield
            failure = None
        except EngineUnavailable:
            failure = Failure.UNAVAILABLE
            raise
        except EngineError:
            failure = Failure.REFUSED
            raise
        finally:
            self.observer.called(operation, time.perf_counter() - began, failure)

    async def _remove(self, container_id: str) -> None:
        while True:
            try:
                await self.docker.containers.container(container_id).delete(force=True, v=True)
            except DockerError as error:
                if error.status == _CONFLICT:  # the engine removes it already, and may yet fail
                    await asyncio.sleep(0.02)
                    continue
                if error.status != NOT_FOUND:
                    raise
            return

    async def _create(self, document: CreateDocument) -> DockerContainer:
        known = self._is_podman
        try:
            return await self._create_as(document)
        except EngineError:
            self._profiles.clear()  # somebody may have removed the volume that holds them
            if known or not self._is_podman:
                raise
        return await self._create_as(document)  # only its refusal told that it is Podman

    async def _create_as(self, document: CreateDocument) -> DockerContainer:
        with self._call(Operation.CREATE):
            if self._is_podman:
                document = podman.translated(document, await self._profile_path(document))
            created = await self.docker._query_json(  # noqa: SLF001 - `create` knows no timeout
                "containers/create",
                method="POST",
                data=json.dumps(document).encode(),
                timeout=aiohttp.ClientTimeout(total=_CREATE_TIMEOUT_S),
            )
            return self.docker.containers.container(created["Id"])

    async def _profile_path(self, document: CreateDocument) -> str:
        """Return where Podman's machine has the document's seccomp profile, putting it there."""
        if not (profile := podman.profile_of(document)):
            return ""
        async with self._publishing:  # without it, each of a hundred starts would do so at once
            if profile not in self._profiles:
                self._profiles[profile] = await podman.publish(self.docker, profile, document)
            return self._profiles[profile]

    async def _recognise(
        self, _session: object, _context: object, answer: aiohttp.TraceRequestEndParams
    ) -> None:
        """See by an answer whether the engine is Podman.

        An answer that is no JSON, such as the upgrade to a stream, tells nothing.
        """
        if answer.response.content_type == "application/json":
            self._is_podman = podman.SIGN in answer.response.headers

    def _attach(self, container_id: str) -> EngineStream:
        # aiodocker's own `attach` would first inspect the container, to see if it has a terminal.
        # `detachKeys=` means that no keys detach; without it, Podman has keys of its own.
        wanted = "detachKeys=&logs=0&stream=1&stdin=1&stdout=1&stderr=1"
        return self._stream(f"containers/{container_id}/attach?{wanted}")

    def _stream(self, path: str, body: bytes | None = None) -> EngineStream:
        async def setup() -> tuple[URL, bytes | None, bool]:
            return URL(path), body, False

        return EngineStream(self.docker, setup)

    async def _discard(self, creation: asyncio.Future[DockerContainer]) -> None:
        try:
            container_id = (await creation).id
        except EngineError:
            return
        await until_removed(container_id, lambda: self.remove(container_id))

    async def _give_up(self, container_id: str, stream: AttachedStream) -> None:
        await stream.close()
        await until_removed(container_id, lambda: self.remove(container_id))
