"""The container that keeps the layers on their volume: the only one that may write there.

It runs our own code alone (`pool/deposit.py`), without a network, and ends with its stdin. It
is started when it is needed, and once it keeps something stays, so that its lock on what it
keeps tells other servers on this engine that it is taken.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from pool import deposit
from pool.cleanup import see_through, until_removed
from pool.errors import ContainerLost, EngineError
from pool.spec import LAYERS_DIR, volume_document

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from pool.engine import Engine, Stream
    from pool.spec import ContainerSpec

_START_TIMEOUT_S = 30.0
_ABORT_TIMEOUT_S = 10.0
_PART_BYTES = 1 << 17
_MAX_ANSWER_BYTES = 16 << 20

JsonObject = dict[str, object]


class Keeper:
    """One server's keeper. Every method raises `EngineError` where the engine fails it.

    `owner` is the name of this server's process, `labels` gives a container's labels.
    """

    def __init__(
        self, engine: Engine, volume: str, owner: str, labels: Callable[[], Mapping[str, str]]
    ) -> None:
        self._engine = engine
        self._volume = volume
        source = Path(deposit.__file__).read_text(encoding="utf-8")
        name = hashlib.sha256(owner.encode()).hexdigest()[:32]
        self._command = ("python3", "-I", "-c", source, LAYERS_DIR, name)
        self._labels = labels
        self._lock = asyncio.Lock()
        self._container: tuple[str, Stream] | None = None
        self._received = b""

    async def load(self, spec: ContainerSpec) -> list[JsonObject]:
        """Return what is known of every sound layer, in a keeper that is started anew."""
        async with self._lock:
            await self._stop()
            await self._start(spec)
            answer = await self._ask({"do": "load"})
        return cast("list[JsonObject]", answer["layers"])

    async def check(self, name: str) -> bool:
        """Whether a layer is what it was."""
        async with self._lock:
            return bool((await self._ask({"do": "check", "name": name}))["sound"])

    async def remove(self, *names: str) -> None:
        """Remove layers."""
        async with self._lock:
            await self._ask({"do": "remove", "names": names})

    async def note_use(self, used: Mapping[str, float]) -> None:
        """Remember when layers were last used, for servers to come."""
        async with self._lock:
            await self._ask({"do": "note_use", "used": dict(used)})

    @contextlib.asynccontextmanager
    async def publishing(
        self, name: str, about: Mapping[str, object]
    ) -> AsyncIterator[Publication]:
        """Take a layer in, unless the block ends in an exception: then nothing is left of it."""
        async with self._lock:
            await self._send({"do": "publish", "name": name, "about": dict(about)})
            publication = Publication(self._write)
            try:
                yield publication
            except BaseException:
                await see_through(self._abort())
                raise
            try:
                await publication.end()
                answer = await self._answer()
            except BaseException:
                await self._stop()
                raise
            publication.bytes = int(str(answer["bytes"]))

    async def close(self) -> None:
        """End the keeper. Nothing is lost; another server may take over what it kept."""
        async with self._lock:
            await self._stop()

    def is_running(self) -> bool:
        """Whether there is a keeper that answered when it was last asked."""
        return self._container is not None

    async def _abort(self) -> None:
        try:
            async with asyncio.timeout(_ABORT_TIMEOUT_S):
                await self._write(deposit.CHUNK.pack(deposit.ABORT))
                await self._answer()
        except (EngineError, TimeoutError):
            await self._stop()

    async def _start(self, spec: ContainerSpec) -> None:
        command, labels = self._command, self._labels()
        document = volume_document(spec, self._volume, command=command, labels=labels)
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                self._container = await self._engine.start(document)
        except TimeoutError as error:
            raise ContainerLost("the keeper of dependencies does not start") from error
        self._received = b""

    async def _stop(self) -> None:
        container, self._container = self._container, None
        if container is not None:
            container_id, stream = container
            await stream.close()
            remove = partial(self._engine.remove, container_id)
            await see_through(until_removed(container_id, remove))

    async def _ask(self, request: JsonObject) -> JsonObject:
        try:
            await self._send(request)
            return await self._answer()
        except BaseException:
            # Whatever it says now would be taken for the answer to the next request.
            await self._stop()
            raise

    async def _send(self, request: JsonObject) -> None:
        await self._write(json.dumps(request).encode() + b"\n")

    async def _write(self, data: bytes) -> None:
        if self._container is None:
            raise ContainerLost("the keeper of dependencies is not there")
        await self._container[1].write(data)

    async def _answer(self) -> JsonObject:
        if self._container is None:
            raise ContainerLost("the keeper of dependencies is not there")
        while b"\n" not in self._received:
            data = await self._container[1].read()
            self._received += data
            if not data or len(self._received) > _MAX_ANSWER_BYTES:
                raise ContainerLost("the keeper of dependencies has ended")
        line, _, self._received = self._received.partition(b"\n")
        answer: JsonObject = json.loads(line)
        if "error" in answer:
            raise EngineError(f"the volume of dependencies: {answer['error']}")
        return answer


class Publication:
    """A layer on its way to the volume; `bytes` is what it takes there once it has arrived."""

    def __init__(self, write: Callable[[bytes], Awaitable[None]]) -> None:
        self.bytes = 0
        self._write_out = write
        self._pending = bytearray()

    async def write(self, data: bytes) -> None:
        """Add bytes of checked records (`pool/archive.py`)."""
        self._pending += data
        if len(self._pending) >= _PART_BYTES:
            await self._flush()

    async def end(self) -> None:
        """Say that this was all."""
        await self._flush()
        await self._write_out(deposit.CHUNK.pack(0))

    async def _flush(self) -> None:
        if self._pending:
            part = bytes(self._pending)
            self._pending.clear()
            await self._write_out(deposit.CHUNK.pack(len(part)) + part)
