"""The client's sessions, against answers as the contract has them."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from pgexec.client import (
    AsyncClient,
    AsyncSession,
    Client,
    CompletedRun,
    Display,
    RunRefused,
    Session,
)
from tests.unit.http.test_client import RESULT

CELL: dict[str, Any] = {
    **RESULT,
    "value": "[1]",
    "displays": [
        {"mime": "image/png", "content": "AQID"},
        {"mime": "text/html", "content": "", "omitted": "too large"},
    ],
    "restarted": True,
}


class FakeServer:
    """Answers the routes of sessions; `ended` is the status that they have instead."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, Any]] = []
        self.ended = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content or b"null")
        self.asked.append((request.method, request.url.raw_path.decode(), body))
        if self.ended:
            document = {"data": None, "error": "it was idle", "code": "session_ended"}
            return httpx.Response(self.ended, json=document)
        if request.method == "DELETE":
            return httpx.Response(204)
        if request.url.path == "/sessions":
            return httpx.Response(201, json={"id": "a/b", "language": "x", "expires_in_s": 300})
        if "accept" in request.headers and "event-stream" in request.headers["accept"]:
            return httpx.Response(200, text=f"event: result\ndata: {json.dumps(CELL)}\n\n")
        return httpx.Response(200, json=CELL)


@pytest.fixture
def fake() -> FakeServer:
    return FakeServer()


@pytest.fixture
async def client(fake: FakeServer) -> AsyncClient:
    client = AsyncClient("http://x")
    await client.close()
    client._http = httpx.AsyncClient(transport=httpx.MockTransport(fake), base_url="http://x")
    return client


async def test_a_session_begins_runs_and_ends(fake: FakeServer, client: AsyncClient) -> None:
    async with await client.session(dependencies=("numpy",), idle_timeout_s=9) as session:
        assert isinstance(session, AsyncSession)
        result = await session.run("x", timeout_s=2, files={"a": "b"})
        (event,) = [event async for event in session.stream("y")]
    assert event.result == result
    assert (result.value, result.restarted) == ("[1]", True)
    assert result.displays == (
        Display("image/png", "AQID"),
        Display("text/html", None, "too large"),
    )
    opened = {"language": "python", "dependencies": ["numpy"], "idle_timeout_s": 9}
    file = {"name": "a", "content": "b", "encoding": "utf8"}
    assert fake.asked == [
        ("POST", "/sessions", opened),
        ("POST", "/sessions/a%2Fb/run", {"code": "x", "timeout_s": 2, "files": [file]}),
        ("POST", "/sessions/a%2Fb/run", {"code": "y"}),
        ("DELETE", "/sessions/a%2Fb", None),
    ]


@pytest.mark.parametrize("status", [404, 409, 410])
async def test_a_session_that_cannot_run_refuses_and_is_left_in_peace(
    fake: FakeServer, client: AsyncClient, status: int
) -> None:
    async with client.resume("gone") as session:
        fake.ended = status
        for call in (session.run("x"), anext(session.stream("x")), session.end()):
            with pytest.raises(RunRefused, match="it was idle") as caught:
                await call
            assert (caught.value.status, caught.value.code) == (status, "session_ended")


async def test_what_is_no_session_has_no_values(client: AsyncClient) -> None:
    client._http = httpx.AsyncClient(
        transport=httpx.MockTransport(lambda _: httpx.Response(200, json=RESULT)),
        base_url="http://x",
    )
    result = await client.run("x")
    assert (result.value, result.displays, result.restarted) == (None, (), False)


def test_a_notebook_shows_value_and_images_and_no_html(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown: list[object] = []
    module = SimpleNamespace(display=lambda thing, **options: shown.append((thing, options)))
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    html = {"mime": "text/html", "content": "<script>"}
    CompletedRun.of({**CELL, "displays": [*CELL["displays"], html]})._ipython_display_()
    assert capsys.readouterr().out == "1\n[1]\n"
    assert shown == [({"image/png": "AQID"}, {"raw": True})]


def test_the_client_of_threads_does_the_same(fake: FakeServer) -> None:
    client = Client("http://x")
    client.close()
    client._http = httpx.Client(transport=httpx.MockTransport(fake), base_url="http://x")
    with client.session() as session:
        assert isinstance(session, Session)
        assert session.run("x").value == "[1]"
        assert [event.kind for event in session.stream("x")] == ["result"]
    fake.ended = 410
    with pytest.raises(RunRefused):
        session.end()
    assert [method for method, *_ in fake.asked] == ["POST", "POST", "POST", "DELETE", "DELETE"]
