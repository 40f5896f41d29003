"""A server that has been told to stop goes on to serve for a while, but asks everyone to leave."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from typing import TYPE_CHECKING

import pytest
from aiohttp import ClientSession

from pgexec import app as application
from pgexec.http.record import LEAVING
from tests.unit.http.rig import read_answer
from tests.unit.http.test_app import App, FakeBackend, free_port, settings_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from tests.unit.http.rig import Answer

GET = "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"


def run(code: str, *headers: str) -> str:
    return post("/run", {"language": "python", "code": code}, *headers)


def post(path: str, fields: Mapping[str, str], *headers: str) -> str:
    body = json.dumps(fields)
    lines = (
        *(f"POST {path} HTTP/1.1", "Host: x", "Content-Type: application/json"),
        *(f"Content-Length: {len(body)}", *headers),
    )
    return "\r\n".join((*lines, "", body))


class Delay:
    """Stands for the delay: `began` tells that it has begun, `over` ends it."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.over = asyncio.Event()

    async def __call__(self, _seconds: float, _attendant: asyncio.Task[None]) -> None:
        self.began.set()
        await self.over.wait()


@pytest.fixture
async def delay(monkeypatch: pytest.MonkeyPatch) -> Delay:
    delay = Delay()
    monkeypatch.setattr(application, "_delay", delay)
    return delay


@pytest.fixture
async def app(delay: Delay) -> AsyncIterator[App]:
    port, backend = free_port(), FakeBackend()
    task = asyncio.create_task(application.serve(settings_of(port), backend, lambda: None))
    await backend.attending.wait()
    async with ClientSession() as session, asyncio.timeout(20):
        app = App(port, backend, task, session)
        await app.until_ready()
        yield app
        delay.over.set()
        finish(app)
        await task


class Client:
    """One connection that is kept for as long as the server keeps it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def of(cls, app: App) -> Client:
        return cls(*await asyncio.open_connection("127.0.0.1", app.url.rpartition(":")[2]))

    async def ask(self, request: str) -> Answer:
        self.writer.write(request.encode())
        return await read_answer(self.reader)

    async def get(self, path: str) -> Answer:
        return await self.ask(GET.format(path=path))

    async def ends(self) -> bool:
        """Return True once the server has closed the connection."""
        ended = await self.reader.read() == b""
        self.writer.close()
        return ended


async def until_busy(app: App, runs: int) -> None:
    while sum(one.busy for one in app.backend.engine.containers.values()) != runs:  # nobody tells
        await asyncio.sleep(0)


def finish(app: App) -> None:
    for one in app.backend.engine.containers.values():
        if one.busy:
            one.finish()


async def test_from_the_signal_on_readyz_is_503_and_each_answer_ends_its_connection(
    app: App, delay: Delay
) -> None:
    running, kept, idle = [await Client.of(app) for _ in range(3)]
    long = asyncio.create_task(running.ask(run("hang")))
    await until_busy(app, 1)
    for client in (kept, idle):
        assert "Connection" not in (await client.get("/readyz")).headers
    os.kill(os.getpid(), signal.SIGTERM)
    await delay.began.wait()

    for client in (kept, await Client.of(app)):
        answer = await client.get("/readyz")
        assert (answer.status, answer.json["error"]) == (503, LEAVING)
        assert answer.headers["Connection"] == "close"
        assert await client.ends()
    for request, status in (
        (run("x"), 200),
        (GET.format(path="/nowhere"), 404),
        (run("x", "Expect: wonders"), 417),
        ("garbage\r\n\r\n", 400),
    ):
        client = await Client.of(app)
        answer = await client.ask(request)
        assert (answer.status, answer.headers["Connection"]) == (status, "close")
        assert await client.ends()

    delay.over.set()
    while True:  # nobody tells
        try:
            (await Client.of(app)).writer.close()
        except OSError:
            break
    answer = await idle.ask(run("x"))
    assert (answer.status, answer.json["code"]) == (503, "draining")
    assert (answer.headers["Connection"], answer.headers["Retry-After"]) == ("close", "1")
    assert await idle.ends()
    finish(app)
    answer = await long
    assert (answer.status, answer.headers["Connection"]) == (200, "close")
    assert await running.ends()


async def test_a_stream_ends_its_connection_though_its_head_went_before_the_signal(
    app: App, delay: Delay
) -> None:
    streaming, later = await Client.of(app), await Client.of(app)
    events = "Accept: text/event-stream"
    streaming.writer.write(run("hang", events).encode())
    before = await streaming.reader.readuntil(b"\r\n\r\n")
    assert b"Connection" not in before
    os.kill(os.getpid(), signal.SIGTERM)
    await delay.began.wait()
    later.writer.write(run("x", events).encode())
    assert b"Connection: close" in await later.reader.readuntil(b"\r\n\r\n")
    finish(app)
    for client in (streaming, later):
        assert b"event: result" in await client.reader.read()
        client.writer.close()


async def test_no_session_begins_on_a_server_that_is_about_to_end_it(
    app: App, delay: Delay
) -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    await delay.began.wait()
    clients = [await Client.of(app) for _ in range(2)]
    answer = await clients[0].ask(post("/sessions", {"language": "python"}))
    # Nothing ran, so a proxy may ask another server.
    assert (answer.status, answer.json["code"], answer.json["error"]) == (503, "draining", LEAVING)
    assert answer.headers["Retry-After"] == "1"
    answer = await clients[1].ask(post("/sessions", {"language": "cobol"}))
    assert answer.status == 400
    assert [await client.ends() for client in clients] == [True, True]


@pytest.mark.clock
async def test_the_delay_is_as_long_as_the_setting_says() -> None:
    loop = asyncio.get_running_loop()
    forever = loop.create_task(asyncio.Event().wait())
    began = loop.time()
    await application._delay(5, forever)  # type: ignore[arg-type]
    assert loop.time() - began == pytest.approx(5)
    forever.cancel()


async def test_a_bug_during_the_delay_ends_it() -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await application._delay(1000, asyncio.create_task(fail()))
