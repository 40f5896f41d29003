"""An engine that can be away: a socket that passes every byte on to the real one, or not."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class EngineProxy:
    """Passes connections to `path` on to the engine's own socket while it is up."""

    def __init__(self, path: Path, engine_socket: str) -> None:
        self.path = path
        self.lost_answers = 0
        self._engine_socket = engine_socket
        self._losing = b""
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def up(self) -> None:
        """Begin to listen."""
        self._server = await asyncio.start_unix_server(self._serve, self.path)

    async def down(self) -> None:
        """Stop listening and cut every connection, on both sides."""
        if self._server is not None:
            self._server.close()
            self._server = None
            self.path.unlink(missing_ok=True)
        self.cut()

    def cut(self) -> None:
        """Cut every connection; further ones are welcome."""
        for writer in self._writers:
            writer.transport.abort()

    def lose_answer_to(self, request: bytes) -> None:
        """Cut the connection instead of passing on what the engine answers to this, once."""
        self._losing = request

    def pass_on(self, data: bytes) -> bytes:
        """Return what the engine gets instead of this, of the same length."""
        return data

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with contextlib.suppress(OSError):
            there, back = await asyncio.open_unix_connection(self._engine_socket)
            self._writers.add(back)
            doomed = asyncio.Event()

            async def ask() -> None:
                while data := await reader.read(1 << 16):
                    if self._losing and self._losing in data:
                        self._losing = b""
                        doomed.set()
                    back.write(self.pass_on(data))
                    await back.drain()
                back.write_eof()

            async def answer() -> None:
                while data := await there.read(1 << 16):
                    if doomed.is_set():
                        self.lost_answers += 1
                        writer.transport.abort()
                        return
                    writer.write(data)
                    await writer.drain()
                writer.write_eof()

            results = await asyncio.gather(ask(), answer(), return_exceptions=True)
            self._writers.discard(back)
            back.transport.abort()
            for result in results:
                if isinstance(result, BaseException) and not isinstance(result, OSError):
                    raise result
        self._writers.discard(writer)
        writer.transport.abort()
