"""The volume of layers, and the container that serves it.

Only this container may write to the volume. It runs our own code only
(`pool/inside/volume_server.py`), has no network, and ends with its stdin. It starts when it is
needed. Once it holds layers, it stays: its lock tells other servers on this engine not to take
them over.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
from functools import partial
from typing import TYPE_CHECKING, cast

from pool.engine.cleanup import see_through, until_removed
from pool.engine.sources import program
from pool.engine.spec import LAYERS_DIR, volume_document
from pool.errors import ContainerLost, EngineError
from pool.inside.layer_format import ABORT, CHUNK
from pool.language import PYTHON

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from pool.engine.api import Engine, Stream
    from pool.engine.spec import ContainerSpec

logger = logging.getLogger(__name__)

_ABORT_TIMEOUT_S = 10.0
_LAST_ANSWER_S = 3.0
_MAX_DEATHS = 3
"""The container may end so many times while it reads the layers; each time one layer is removed."""
_PART_BYTES = 1 << 17
_MAX_ANSWER_BYTES = 16 << 20

JsonObject = dict[str, object]


class Volume:
    """The layers of one server on the volume. Every method may raise `EngineError`.

    `owner` is the name of this server's process: its layers are kept apart from the layers of
    others. `labels` returns the labels for a container that starts now, which may take
    `start_timeout_s` seconds.
    """

    def __init__(
        self,
        engine: Engine,
        volume: str,
        owner: str,
        labels: Callable[[], Mapping[str, str]],
        *,
        start_timeout_s: float = 30.0,
    ) -> None:
        self._engine = engine
        self._volume = volume
        source = program("volume_server")
        name = hashlib.sha256(owner.encode()).hexdigest()[:32]
        self._command = PYTHON.run_text(source, LAYERS_DIR, name, options=PYTHON.isolated)
        self._labels = labels
        self._start_timeout_s = start_timeout_s
        self._lock = asyncio.Lock()
        self._container: tuple[str, Stream] | None = None
        self._loaded = False
        self._received = b""

    async def load(self, spec: ContainerSpec) -> list[JsonObject]:
        """Start the container anew; return the record of every sound layer."""
        async with self._lock:
            await self._stop()
            deaths = 0
            while True:
                try:
                    await self._start(spec)
                    return await self._load()
                except ContainerLost as error:
                    deaths += 1
                    if deaths == _MAX_DEATHS:
                        raise
                    # The layer that it was reading is removed, so the next try gets further.
                    logger.warning("%s while it looked at its layers", error)

    async def _load(self) -> list[JsonObject]:
        names = cast("list[str]", (await self._ask({"do": "names"}))["names"])
        # One by one: a cancellation then waits for one of them, not for all.
        answers = [await self._ask({"do": "load", "name": name}) for name in names]
        self._loaded = True
        found = [cast("JsonObject | None", answer["layer"]) for answer in answers]
        return [layer for layer in found if layer is not None]

    async def check(self, name: str) -> bool:
        """Return True if a layer's files are the same as when it was published."""
        async with self._lock:
            return bool((await self._ask({"do": "check", "name": name}))["sound"])

    async def remove(self, *names: str) -> None:
        """Remove layers."""
        async with self._lock:
            await self._ask({"do": "remove", "names": names})

    async def note_use(self, used: Mapping[str, float]) -> None:
        """Store the times of the last uses (seconds since the epoch), for later servers."""
        async with self._lock:
            await self._ask({"do": "note_use", "used": dict(used)})

    @contextlib.asynccontextmanager
    async def publishing(
        self, name: str, about: Mapping[str, object]
    ) -> AsyncIterator[Publication]:
        """Publish the layer that the block writes.

        If the block raises, nothing is left of the layer. Other requests wait meanwhile, because
        the bytes of the layer use the same stream.
        """
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
        """End the container. The layers stay; another server may take them over."""
        async with self._lock:
            await self._stop()

    def is_running(self) -> bool:
        """Return True if the container is there, has read its layers, and has answered."""
        return self._container is not None and self._loaded

    async def _abort(self) -> None:
        try:
            async with asyncio.timeout(_ABORT_TIMEOUT_S):
                await self._write(CHUNK.pack(ABORT))
                await self._answer()
        except (EngineError, TimeoutError):
            await self._stop()

    async def _start(self, spec: ContainerSpec) -> None:
        command, labels = self._command, self._labels()
        document = volume_document(spec, self._volume, command=command, labels=labels)
        try:
            async with asyncio.timeout(self._start_timeout_s):
                self._container = await self._engine.start(document)
        except TimeoutError as error:
            message = f"the container of dependencies did not start in {self._start_timeout_s:g} s"
            raise ContainerLost(f"{message}; PGEXEC_START_TIMEOUT_S gives it more") from error
        self._received = b""

    async def _stop(self) -> None:
        container, self._container, self._loaded = self._container, None, False
        if container is not None:
            container_id, stream = container
            await stream.close()
            remove = partial(self._engine.remove, container_id)
            await see_through(until_removed(container_id, remove))

    async def _ask(self, request: JsonObject) -> JsonObject:
        exchange = asyncio.create_task(self._exchange(request), name="ask the volume")
        try:
            return await asyncio.shield(exchange)
        except BaseException:
            # If the container were killed while it reads a layer, its successor would remove this
            # layer. If it were not, the next request would take the late answer for its own.
            await see_through(self._finish(exchange))
            raise

    async def _finish(self, exchange: asyncio.Task[JsonObject]) -> None:
        """Wait a little for the answer to a cancelled request; if none comes, end the container."""
        await asyncio.wait([exchange], timeout=_LAST_ANSWER_S)
        if not exchange.done() or exchange.cancelled() or exchange.exception() is not None:
            exchange.cancel()
            await self._stop()

    async def _exchange(self, request: JsonObject) -> JsonObject:
        await self._send(request)
        return await self._answer()

    async def _send(self, request: JsonObject) -> None:
        await self._write(json.dumps(request).encode() + b"\n")

    async def _write(self, data: bytes) -> None:
        if self._container is None:
            raise ContainerLost("the container of dependencies is not there")
        await self._container[1].write(data)

    async def _answer(self) -> JsonObject:
        if self._container is None:
            raise ContainerLost("the container of dependencies is not there")
        while b"\n" not in self._received:
            data = await self._container[1].read()
            self._received += data
            if not data or len(self._received) > _MAX_ANSWER_BYTES:
                raise ContainerLost("the container of dependencies has ended")
        line, _, self._received = self._received.partition(b"\n")
        answer: JsonObject = json.loads(line)
        if "error" in answer:
            raise EngineError(f"the volume of dependencies: {answer['error']}")
        return answer


class Publication:
    """A layer on its way to the volume; once it has arrived, `bytes` is its size there."""

    def __init__(self, write: Callable[[bytes], Awaitable[None]]) -> None:
        self.bytes = 0
        self._write_out = write
        self._pending = bytearray()

    async def write(self, data: bytes) -> None:
        """Add bytes of checked records (`pool/dependencies/archive.py`)."""
        self._pending += data
        if len(self._pending) >= _PART_BYTES:
            await self._flush()

    async def end(self) -> None:
        """Tell the volume that the layer is complete."""
        await self._flush()
        await self._write_out(CHUNK.pack(0))

    async def _flush(self) -> None:
        if self._pending:
            part = bytes(self._pending)
            self._pending.clear()
            await self._write_out(CHUNK.pack(len(part)) + part)
