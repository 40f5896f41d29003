"""A service that does as it is told, and a client that may be rude."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING, Any

from pool.job import Result, Status
from pool.observer import Snapshot

if TYPE_CHECKING:
    from aiohttp import ClientSession

    from pgexec.contract import RunRequest
    from pgexec.http.routes import Context
    from pgexec.http.server import HttpServer
    from pgexec.service import Progress, Timings
    from pgexec.telemetry.metrics import Metrics


def make_result(status: Status = Status.OK, **changes: Any) -> Result:
    values: dict[str, Any] = {
        "status": status,
        "exit_code": 0,
        "signal": None,
        "data": b"1\n",
        "stdout": b"1\n",
        "stderr": b"",
        "duration_s": 0.001,
        "cpu_s": 0.0005,
        "peak_memory_bytes": 9_000_000,
        "truncated": False,
    }
    return Result(**(values | changes))


def make_snapshot(**changes: Any) -> Snapshot:
    values: dict[str, Any] = {
        "starting": 1,
        "idle": 4,
        "leased": 2,
        "resetting": 0,
        "destroying": 0,
        "waiting": 3,
        "start_failure": None,
        "unready": None,
    }
    return Snapshot(**(values | changes))


class FakeService:
    """Goes through `script`, waits for `gate`, and raises `error` or answers with `result`."""

    def __init__(self) -> None:
        self.result = make_result()
        self.script: Callable[[Progress], Awaitable[None]] | None = None
        self.error: Exception | None = None
        self.gate: asyncio.Event | None = None
        self.reason: str | None = None
        self.full = False
        self.most = 4
        self.start_s: float | None = None
        self.install_s: float | None = None
        self.requests: list[RunRequest] = []
        self.tenants: list[str] = []
        self.entered = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def run(
        self,
        request: RunRequest,
        timeout_s: float,
        tenant: str,
        timings: Timings,
        progress: Progress | None = None,
    ) -> Result:
        self.requests.append(request)
        self.tenants.append(tenant)
        self.entered.set()
        timings.container_id, timings.source = "c0ffee" * 10, "idle"
        timings.queue_s, timings.lease_s = 0.0, 0.0015
        timings.start_s, timings.install_s = self.start_s, self.install_s
        if self.script is not None and progress is not None:
            await self.script(progress)
        if self.gate is not None:
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        if self.error is not None:
            raise self.error
        timings.run_s = self.result.duration_s
        return self.result

    def at_once(self, language: str, tenant: str) -> int:
        return self.most

    def unready(self, *, though_full: bool = False) -> str | None:
        return None if though_full and self.full else self.reason

    def pools(self) -> dict[str, Snapshot]:
        return {"python": make_snapshot(unready=self.reason)}


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Running:
    """The server, seen from a client that may be rude."""

    port: int
    service: FakeService
    metrics: Metrics
    server: HttpServer
    session: ClientSession
    context: Context
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.writers.append(writer)
        return reader, writer

    async def raw(self, data: bytes) -> Answer:
        """Send bytes, and return the first answer to them."""
        reader, writer = await self.connect()
        writer.write(data)
        return await read_answer(reader)

    async def post(self, body: Any, **headers: str) -> Answer:
        headers = {"Content-Type": "application/json"} | headers
        data = BytesIO(body if isinstance(body, bytes) else json.dumps(body).encode())
        async with self.session.post(self.url + "/run", data=data, headers=headers) as response:
            return Answer(response.status, dict(response.headers), await response.read())

    async def get(self, path: str, method: str = "GET", **headers: str) -> Answer:
        async with self.session.request(method, self.url + path, headers=headers) as response:
            return Answer(response.status, dict(response.headers), await response.read())


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    async with asyncio.timeout(20):
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines[1:] if line)
        body = await reader.readexactly(int(headers.get("Content-Length", 0)))
    return Answer(int(lines[0].split()[1]), headers, body)


Serve = Callable[..., Awaitable[Running]]
