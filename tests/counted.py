"""Clients whose every run says that it runs, to a counter, so that none runs twice unseen."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from aiohttp import ClientError

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping
    from types import TracebackType

    from aiohttp import ClientSession

CODE = """
import _socket, time  # the module socket would take longer than all the rest
counter = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
counter.connect(("{host}", {port}))
counter.send(b"{token}\\n")
while counter.recv(2):  # the counter closes first: what waits for stray packets is not here
    pass
counter.close()
{pause}
print("{token}")
"""
PAUSE_S = 0.1


class RunCounter:
    """Counts how often each run has begun, by the word that the run sends."""

    def __init__(self, listener: socket.socket) -> None:
        self.begun: Counter[str] = Counter()
        self._listener = listener
        self.host, self.port = listener.getsockname()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._count, sock=self._listener)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()

    def close(self) -> None:
        """Let go of the listening socket, also where nobody ever counted."""
        self._listener.close()

    async def _count(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            self.begun[(await reader.readuntil(b"\n")).decode().strip()] += 1
            writer.write(b"ok")
            await writer.drain()
        writer.close()


@dataclass(frozen=True, slots=True)
class Told:
    """What a client was told of one run; `status` 0 means nothing at all."""

    token: str
    status: int
    server: str
    detail: str
    began: float
    ended: float


@dataclass
class CountedLoad:
    """Clients that ask for the next run as soon as they are answered, and never try again."""

    session: ClientSession
    url: str
    counter: RunCounter
    clients: int
    headers: Mapping[str, str] = field(default_factory=dict)
    pause: str = "pass"
    """What each run does before it ends."""
    told: list[Told] = field(default_factory=list)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _stopped: bool = False

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._client(n)) for n in range(self.clients)]
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopped = True
        await asyncio.gather(*self._tasks)

    async def more(self, runs: int) -> None:
        """Wait until so many further runs were served."""
        target = self.statuses[200] + runs
        async with asyncio.timeout(120):
            while self.statuses[200] < target:
                await asyncio.sleep(0.02)

    async def until_all(self, runs: int, *, since: float = 0.0) -> None:
        """Wait until so many requests were answered since a time (monotonic, s)."""
        while len(self.since(since)) < runs:
            await asyncio.sleep(0.02)

    @property
    def statuses(self) -> Counter[int]:
        return Counter(one.status for one in self.told)

    @property
    def servers(self) -> Counter[str]:
        """How many runs each server has served."""
        return Counter(one.server for one in self.told if one.status == 200)

    def since(self, began: float) -> list[Told]:
        """Return what was told of requests that ended after a time (monotonic, s)."""
        return [one for one in self.told if one.ended >= began]

    @property
    def twice(self) -> list[str]:
        """What ran more than once."""
        return [token for token, times in self.counter.begun.items() if times > 1]

    @property
    def lies(self) -> list[Told]:
        """What does not fit what the counter saw: 200 ran once, 503 never, 502 perhaps."""
        begun, fits = self.counter.begun, {200: {1}, 502: {0, 1}, 503: {0}}
        return [one for one in self.told if begun[one.token] not in fits.get(one.status, ())]

    async def _client(self, number: int) -> None:
        for turn in itertools.count():
            if self._stopped:
                return
            told = await self._ask(f"{number}-{turn}-{time.monotonic_ns():x}")
            self.told.append(told)
            if told.status != 200:
                await asyncio.sleep(PAUSE_S)

    async def _ask(self, token: str) -> Told:
        where = {"host": self.counter.host, "port": self.counter.port}
        code = CODE.format(**where, token=token, pause=self.pause)
        body = json.dumps({"language": "python", "code": code})
        # By its word, each server's log has what it was asked.
        named = {"X-Request-ID": token, "Content-Type": "application/json"}
        headers = {**named, **self.headers}
        began, status, server, detail = time.monotonic(), 0, "", ""
        try:
            async with self.session.post(f"{self.url}/run", data=body, headers=headers) as answer:
                text = await answer.text()
                status, server = answer.status, answer.headers.get("X-Pgexec-Server", "")
                detail = text[:300]
                if status == 200 and json.loads(text)["data"] != f"{token}\n":
                    status = 0
        except (OSError, ClientError, TimeoutError, ValueError) as error:
            detail = repr(error)
        return Told(token, status, server, detail, began, time.monotonic())
