"""An engine whose answers to some requests are late, wrong, cut short or none at all."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CREATE = b"/containers/create"
OLD, NEW = b"1.40", b"1.41"


class Mischief(StrEnum):
    """What happens to a request, or to its answer."""

    NONE = "none"
    FAIL = "fail"
    DELAY = "delay"
    GARBLE = "garble"
    HALVE = "halve"
    LOSE = "lose"


class FaultyProxy:
    """Passes connections to `path` on to the engine's own socket, and does what it is told.

    `mischief` is what happens to the next `create` and, when it is used up, to none.
    """

    def __init__(self, path: Path, engine_socket: str) -> None:
        self.path = path
        self.mischief: Iterator[Mischief] = iter(())
        self.delay_s = 0.0
        self.done = 0
        """How often something happened."""
        self.downgraded = False
        """Whether the engine knows the older version of the API only."""
        self._engine_socket = engine_socket
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def up(self) -> None:
        """Begin to listen."""
        self._server = await asyncio.start_unix_server(self._accept, self.path)

    async def down(self) -> None:
        """Stop listening and end every connection."""
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def always(self, mischief: Mischief) -> None:
        """Treat each `create` so, until told otherwise."""
        self.mischief = itertools.repeat(mischief)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            there, back = await asyncio.open_unix_connection(self._engine_socket)
        except OSError:
            self._end(writer)
        else:
            await self._serve(reader, writer, there, back)
        finally:
            self._tasks.discard(task)

    async def _serve(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        there: asyncio.StreamReader,
        back: asyncio.StreamWriter,
    ) -> None:
        fates: list[Mischief] = []
        ways = [
            asyncio.create_task(self._ask(reader, writer, back, fates)),
            asyncio.create_task(self._answer(reader, writer, there, fates)),
        ]
        try:
            done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            if ways[0] in done and not ways[0].exception():
                await asyncio.wait(ways, timeout=1)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            self._end(writer)
            self._end(back)

    async def _ask(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        back: asyncio.StreamWriter,
        fates: list[Mischief],
    ) -> None:
        while data := await reader.read(1 << 16):
            line = data.partition(b"\r\n")[0]
            if self.downgraded and b"/v" + NEW + b"/" in line:
                await self._refuse(writer, 400, "client version 1.41 is too new")
                return
            fate = Mischief.NONE
            if line.startswith(b"POST ") and CREATE in line:
                fate = next(self.mischief, Mischief.NONE)
                self.done += fate is not Mischief.NONE
            if fate is Mischief.FAIL:
                await self._refuse(writer, 500, "the chaos has it so")
                return
            if fate is Mischief.DELAY:
                await asyncio.sleep(self.delay_s)
            elif fate is not Mischief.NONE:
                fates.append(fate)
            back.write(data)
            await back.drain()
        back.write_eof()

    async def _answer(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        there: asyncio.StreamReader,
        fates: list[Mischief],
    ) -> None:
        while data := await there.read(1 << 16):
            fate = fates.pop() if fates else Mischief.NONE
            if fate is Mischief.LOSE:
                return
            if fate is Mischief.HALVE:
                writer.write(data[: len(data) // 2])
                await writer.drain()
                return
            writer.write(self._changed(data, fate))
            await writer.drain()
        writer.write_eof()
        # The client may go on asking: an upgraded stream ends one way at a time.
        await reader.read()

    def _changed(self, data: bytes, fate: Mischief) -> bytes:
        if fate is Mischief.GARBLE:
            data = data.replace(b'{"Id":', b'<!"Id"?')
        if self.downgraded:
            for version in (b'"ApiVersion":"%b"', b"Api-Version: %b\r\n"):
                data = data.replace(version % NEW, version % OLD)
        return data

    @staticmethod
    async def _refuse(writer: asyncio.StreamWriter, status: int, message: str) -> None:
        body = json.dumps({"message": message}).encode()
        head = (
            f"HTTP/1.1 {status} Chaos\r\nContent-Type: application/json\r\n"
            f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        with contextlib.suppress(OSError):
            await writer.drain()

    @staticmethod
    def _end(writer: asyncio.StreamWriter) -> None:
        writer.close()
        writer.transport.abort()
