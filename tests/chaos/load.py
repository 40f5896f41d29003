"""Closed-loop clients whose every answer says to whom it belongs, and a watch on the server."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import secrets
import time
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Self

from tests.integration.server import read_answer

if TYPE_CHECKING:
    from types import TracebackType

    from tests.integration.server import Answer, Server

RUN_TIMEOUT_S = 2.0
ANSWER_S = 20.0
"""Who has no answer by then has lost it: a wait, a run, the runner's grace, and as much again."""
PAUSE_S = 0.1
WATCH_EVERY_S = 0.05
TRUTH_S = 2.0
"""How old what `/readyz` says may be, and how long `/healthz` may take."""
SHOWN = 5


class Fate(StrEnum):
    """What came of a request."""

    RAN = "ran"  # 200, complete, its own
    REFUSED = "refused"  # a clean error
    BUSY = "busy"  # 409: its session runs another cell
    CUT = "cut"  # the connection ended first
    TWICE = "twice"
    CROSSED = "crossed"
    LOST = "lost"
    WRONG = "wrong"


@dataclass(slots=True)
class Request:
    """One request, from when it was sent to what came of it."""

    token: str
    began: float
    ended: float = 0.0
    fate: Fate = Fate.LOST
    detail: str = ""


@dataclass
class Load:
    """Clients that ask again as soon as they are answered.

    One run in eight wants a fresh container, so that something is always starting.
    """

    server: Server
    clients: int = 5
    may_cut: bool = False
    """Whether the server is to be killed, so that connections may break."""
    wants_fresh: bool = True
    done: list[Request] = field(default_factory=list)
    in_flight: dict[str, Request] = field(default_factory=dict)
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

    def stop(self) -> None:
        """Ask nothing more; whoever waits for an answer goes on waiting."""
        self._stopped = True

    @property
    def fates(self) -> Counter[Fate]:
        return Counter(one.fate for one in self.done)

    @property
    def problems(self) -> list[str]:
        """What is against the promises."""
        fine = {Fate.RAN, Fate.REFUSED, Fate.BUSY} | ({Fate.CUT} if self.may_cut else set())
        return [f"{one.fate}: {one.detail}" for one in self.done if one.fate not in fine][:SHOWN]

    async def ran(self, *, more: int) -> None:
        """Wait until so many further runs were served."""
        target = self.fates[Fate.RAN] + more
        async with asyncio.timeout(60):
            while self.fates[Fate.RAN] < target:
                await asyncio.sleep(0.02)

    async def _client(self, number: int) -> None:
        line: Line | None = None
        for turn in itertools.count():
            if self._stopped:
                break
            if line is None:
                try:
                    line = await Line.open(self.server.port)
                except OSError:  # nobody listens: nothing was asked
                    await asyncio.sleep(PAUSE_S)
                    continue
            request = Request(f"{number}-{turn}-{secrets.token_hex(8)}", time.monotonic())
            self.in_flight[request.token] = request
            fresh = self.wants_fresh and turn % 8 == number % 8
            await self._ask(line, request, fresh=fresh)
            del self.in_flight[request.token]
            request.ended = time.monotonic()
            self.done.append(request)
            if request.fate is not Fate.RAN:
                await asyncio.sleep(PAUSE_S)
            if request.fate not in (Fate.RAN, Fate.REFUSED) or line.ended:
                line.close()
                line = None
        if line is not None:
            await asyncio.sleep(PAUSE_S)  # for an answer too many
            if line.stray:
                self.done.append(Request("?", 0, 0, Fate.TWICE, "bytes that nobody asked for"))
            line.close()

    async def _ask(self, line: Line, request: Request, *, fresh: bool) -> None:
        token = request.token
        code = f"import time\nprint('{token}', flush=True)\ntime.sleep(0.01)\nprint('{token}')"
        fields = {"language": "python", "code": code, "fresh": fresh, "timeout_s": RUN_TIMEOUT_S}
        try:
            async with asyncio.timeout(ANSWER_S):
                answer = await line.ask("POST", "/run", token, json.dumps(fields).encode())
        except TimeoutError:
            request.fate, request.detail = Fate.LOST, f"no answer in {ANSWER_S:g} s"
        except (OSError, EOFError) as error:
            request.fate, request.detail = Fate.CUT, repr(error)
        else:
            request.fate, request.detail = judge(answer, token)
            if line.stray:
                request.fate, request.detail = Fate.TWICE, "bytes after the answer"


def judge(answer: Answer, token: str) -> tuple[Fate, str]:
    """Say what an answer is to whoever sent `token`."""
    detail = f"{token} got {answer.status} {answer.body[:300]!r}"
    if answer.headers.get("X-Request-Id") != token:
        return Fate.CROSSED, detail
    if answer.status != 200:
        clean = set(answer.json) == {"data", "error", "code"} and answer.json["data"] is None
        may_retry = "Retry-After" in answer.headers
        clean = clean and (answer.status, may_retry) in ((502, False), (503, True))
        return (Fate.REFUSED if clean else Fate.WRONG), detail
    data, whole = answer.json["data"], f"{token}\n{token}\n"
    if answer.json["status"] == "ok":
        return (Fate.RAN if data == whole else Fate.CROSSED), detail
    # Whatever ended it, it has said nothing but its own.
    return (Fate.REFUSED if whole.startswith(data) else Fate.CROSSED), detail


class Line:
    """A connection to the server that is kept; one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int) -> Line:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    @property
    def ended(self) -> bool:
        return self._reader.at_eof() or self._writer.is_closing()

    @property
    def stray(self) -> bool:
        """Whether something has come that was not asked for."""
        return bool(self._reader._buffer)  # type: ignore[attr-defined]

    async def ask(self, method: str, path: str, token: str = "", body: bytes = b"") -> Answer:
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: x\r\nX-Request-ID: {token or 'watch'}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self._writer.write(head.encode() + body)
        return await read_answer(self._reader)

    def close(self) -> None:
        self._writer.close()
        self._writer.transport.abort()


@dataclass(frozen=True, slots=True)
class Glance:
    """What `/readyz` said, and how long `/healthz` took."""

    at: float
    ready: bool
    reason: str
    health_s: float


@dataclass
class Watch:
    """Asks `/readyz` and `/healthz` again and again."""

    server: Server
    glances: list[Glance] = field(default_factory=list)
    _task: asyncio.Task[None] | None = None
    _stopped: bool = False

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._look())
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        assert self._task is not None
        self._stopped = True  # a connection that is cancelled while it is made is not closed
        await self._task

    async def says(self, *, ready: bool, why: str = "", within_s: float = TRUTH_S) -> None:
        """Wait until `/readyz` says so, for this reason; asking takes its time, too."""
        asked_at, deadline = time.monotonic(), time.monotonic() + within_s
        while True:
            last = self.glances[-1] if self.glances else None
            if (
                last is not None
                and last.at >= asked_at
                and last.ready is ready
                and why in last.reason
            ):
                return
            assert time.monotonic() < deadline, f"/readyz still says {last} after {within_s:g} s"
            await asyncio.sleep(WATCH_EVERY_S / 2)

    def problems(self, load: Load | None) -> list[str]:
        """Return what `/healthz` and `/readyz` did against their promises."""
        slowest = max((one.health_s for one in self.glances), default=0.0)
        found = [f"/healthz took {slowest:.1f} s"] if slowest > TRUTH_S else []
        return found + ([] if load is None else self._lies(load))

    def _lies(self, load: Load) -> list[str]:
        """Find when `/readyz` held for longer than it may what the runs gave the lie."""
        found = []
        ordered = sorted(load.done, key=lambda one: one.began)
        for ready, began, ended in self._stretches():
            if ended - began <= TRUTH_S:
                continue
            # Whatever began after the grace and ended in the stretch.
            inside = [r for r in ordered if began + TRUTH_S <= r.began and r.ended <= ended]
            runs = sum(one.fate is Fate.RAN for one in inside)
            # That it says no while what is idle can still serve is on the safe side.
            if ready and len(inside) > load.clients and not runs:
                found.append(f"/readyz said for {ended - began:.1f} s yes, but nothing ran")
        return found

    def _stretches(self) -> list[tuple[bool, float, float]]:
        return [
            (ready, group[0].at, group[-1].at)
            for ready, some in itertools.groupby(self.glances, key=lambda one: one.ready)
            for group in [list(some)]
        ]

    async def _look(self) -> None:
        line: Line | None = None
        while not self._stopped:
            try:
                line = line or await Line.open(self.server.port)
                began = time.monotonic()
                health = await line.ask("GET", "/healthz")
                health_s = time.monotonic() - began
                assert health.status == 200
                at = time.monotonic()
                ready = await line.ask("GET", "/readyz")
                reason = "" if ready.status == 200 else ready.error
                self.glances.append(Glance(at, ready.status == 200, reason, health_s))
            except (OSError, EOFError):
                if line is not None:
                    line.close()
                line = None
            await asyncio.sleep(WATCH_EVERY_S)
        if line is not None:
            line.close()


@dataclass(frozen=True, slots=True)
class Usage:
    """What the server's process holds."""

    rss_mib: float
    descriptors: int

    @classmethod
    def of(cls, pid: int) -> Usage:
        with open(f"/proc/{pid}/statm") as file:  # noqa: PTH123
            pages = int(file.read().split()[1])
        descriptors = len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208 - counted only
        return cls(pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20), descriptors)
