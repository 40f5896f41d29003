"""Streams over a connection that the engine has upgraded, to a container or a command in it."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

import aiohttp
from aiodocker.stream import Stream

from pool.errors import ContainerLost, EngineUnavailable

if TYPE_CHECKING:
    from pool.engine.api import EngineObserver

logger = logging.getLogger(__name__)

_LOST = "the connection was lost"
_STDOUT = 1
_LAST_WORDS_BYTES = 1000


class EngineStream(Stream):
    """aiodocker's stream, which raises `ConnectionResetError` if the peer has gone.

    aiodocker asserts that the connection is still there. This class checks it before such an
    assertion, or translates the `AssertionError`.
    """

    async def open(self) -> None:
        """Send the request, and turn its connection into the stream."""
        await self._init()

    async def _init(self) -> None:
        try:
            await super()._init()
        except AssertionError as error:
            # The engine answered and closed the connection before aiodocker could take it over.
            await self.close()
            raise ConnectionResetError(_LOST) from error

    async def write_in(self, data: bytes | memoryview) -> None:
        # No `await` stands between these checks and aiodocker's assertion: else the connection
        # could go in between.
        if self._closed or self._resp is None or (connection := self._resp.connection) is None:
            raise ConnectionResetError(_LOST)
        if connection.transport is None:
            raise ConnectionResetError(_LOST)
        await super().write_in(data)  # type: ignore[arg-type]  # it only passes it on

    async def close(self) -> None:
        if self._resp is not None and self._resp.connection is None:
            self._closed = True  # aiohttp has taken the connection back: do not close it
        await super().close()


class AttachedStream:
    """The standard streams of a container, over the connection that `attach` upgraded."""

    def __init__(self, stream: EngineStream, observer: EngineObserver) -> None:
        self._stream = stream
        self._observer = observer
        self._last_words = b""

    async def read(self) -> bytes:
        """Return the next bytes of the runner, `b""` at the end.

        If the runner wrote to stderr before it ended, raises `ContainerLost` with the last line.
        """
        try:
            while message := await self._stream.read_out():
                self._observer.received_bytes += len(message.data)
                if message.stream == _STDOUT and message.data:
                    return message.data
                self._last_words = (self._last_words + message.data)[-_LAST_WORDS_BYTES:]
        except (OSError, aiohttp.ClientError) as error:
            raise EngineUnavailable(f"read: {str(error) or type(error).__name__}") from error
        if self._last_words:
            words = self._last_words.decode("utf-8", "replace").strip()
            if "\n" in words:
                logger.warning("a runner's last words: %s", words)
            last = words.rpartition("\n")[2].strip()
            raise ContainerLost(f"the container ended: {last}" if last else "the container ended")
        return b""

    async def write(self, data: bytes | memoryview) -> None:
        """Send bytes to the runner."""
        try:
            await self._stream.write_in(data)
        except (RuntimeError, OSError, aiohttp.ClientError) as error:  # uvloop raises the first
            raise ContainerLost("the container's stream is closed") from error
        self._observer.sent_bytes += len(data)

    async def close(self) -> None:
        """Close the connection, which closes the container's stdin."""
        with contextlib.suppress(OSError, aiohttp.ClientError):
            await self._stream.close()
