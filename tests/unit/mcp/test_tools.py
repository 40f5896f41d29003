"""What a call does, with a client of the server that answers as told."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from mcp.shared.exceptions import MCPError
from mcp_types import ImageContent, TextContent

from pgexec.client import CompletedRun, Display, ReturnedFile, RunEvent, RunRefused
from pgexec.mcp.answers import MAX_CHARS
from pgexec.mcp.clients import Clients
from pgexec.mcp.progress import PAUSE_S, Notices
from pgexec.mcp.tools import Tools

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from mcp_types import CallToolResult

RESULT = CompletedRun("hi\n", None, "ok", "hi\n", "", 0, None, 0.1, 0.1, 1, truncated=False)


class FakeClient:
    """Yields these events, raises that error, or waits for ever."""

    def __init__(
        self, *events: RunEvent, error: Exception | None = None, ends: bool = True
    ) -> None:
        self.events, self.error, self.ends = events, error, ends
        self.asked: list[dict[str, Any]] = []
        self.closed = 0
        self.result = RESULT
        self.ended: list[str] = []
        self.gone = False

    async def session(self, **options: Any) -> FakeSession:
        self.asked.append(options)
        return self.resume("new")

    def resume(self, session_id: str) -> FakeSession:
        return FakeSession(self, session_id)

    async def stream(self, code: str, **options: Any) -> AsyncIterator[RunEvent]:
        self.asked.append({"code": code, **options})
        try:
            for event in self.events:
                yield event
            if self.error:
                raise self.error
            if not self.ends:
                await asyncio.Event().wait()
        finally:
            self.closed += 1

    async def run(self, code: str, **options: Any) -> CompletedRun:
        self.asked.append({"code": code, **options})
        if self.error:
            raise self.error
        packages = json.dumps(["3.13.1", [["numpy", "2.1"]]])
        return dataclasses.replace(RESULT, stdout=packages)


class FakeSession:
    """A session of the fake client's, which answers as that does; notes when it is ended."""

    def __init__(self, client: FakeClient, session_id: str) -> None:
        self.client, self.id = client, session_id

    def stream(self, code: str, **options: Any) -> AsyncIterator[RunEvent]:
        return self.client.stream(code, session=self.id, **options)

    async def run(self, code: str, **options: Any) -> CompletedRun:
        self.client.asked.append({"code": code, "session": self.id, **options})
        return self.client.result

    async def end(self) -> None:
        if self.client.gone:
            raise RunRefused("it was idle", code="session_ended", status=410)
        self.client.ended.append(self.id)


class Told:
    """Takes the reports of progress."""

    def __init__(self) -> None:
        self.messages: list[str | None] = []
        self.now = 0.0

    async def report(self, number: float, total: float | None, message: str | None) -> None:
        assert number == len(self.messages) + 1
        assert total is None
        self.messages.append(message)

    @property
    def progress(self) -> Notices:
        return Notices(self.report, lambda: self.now)


async def call(client: FakeClient, name: str = "run_python", **arguments: Any) -> CallToolResult:
    arguments = arguments or {"code": "print('hi')"}
    return await Tools("python").call(client, name, arguments, Told().progress)  # type: ignore[arg-type]


def text(answer: CallToolResult) -> str:
    assert isinstance(answer.content[0], TextContent)
    return answer.content[0].text


async def test_a_call_runs_the_code_in_the_language_that_is_served() -> None:
    client = FakeClient(RunEvent("result", result=RESULT))
    answer = await Tools("python-data").call(client, "run_python", {"code": "1"}, Told().progress)  # type: ignore[arg-type]
    assert text(answer) == "hi"
    assert client.asked[0]["language"] == "python-data"
    assert client.closed == 1


async def test_whatever_fails_is_an_error_of_the_tool_in_one_sentence() -> None:
    refused = RunRefused("the server cannot be reached: refused", code="unreachable")
    for client, sentence in (
        (FakeClient(error=refused), "Nothing ran: the server cannot be reached: refused."),
        (FakeClient(error=ZeroDivisionError("secret")), "A bug of pgexec mcp"),
        (FakeClient(), "The result is lost"),
    ):
        answer = await call(client)
        assert answer.is_error
        assert text(answer).startswith(sentence)
        assert "secret" not in text(answer)
    assert (await call(FakeClient(), cod="x")).is_error


async def test_a_tool_that_is_not_there_is_an_error_of_the_protocol() -> None:
    with pytest.raises(MCPError, match="there is no tool 'rm'"):
        await call(FakeClient(), "rm")


async def test_a_cancellation_closes_the_stream_at_once() -> None:
    client = FakeClient(ends=False)
    task = asyncio.create_task(call(client))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert task.cancelled()
    assert client.closed == 1


async def test_progress_is_told_now_and_then_and_silence_is_not_told() -> None:
    told = Told()
    progress = told.progress
    for event in (
        RunEvent("queue", position=2),
        RunEvent("stdout", text="too early"),
    ):
        await progress.tell(event)
    told.now += PAUSE_S
    await progress.tell(RunEvent("stdout", text="\n"))
    await progress.tell(RunEvent("stdout", text="one\ntwo\n"))
    told.now += PAUSE_S
    await progress.tell(RunEvent("install", text="Downloading numpy\n"))
    assert told.messages == [
        "waiting for a container, place 2",
        "two",
        "installing: Downloading numpy",
    ]


async def test_what_is_installed_is_asked_until_it_is_known() -> None:
    tools, client = Tools("python"), FakeClient(error=RunRefused("away", code="unreachable"))
    tool, *_ = await tools.listed(client)  # type: ignore[arg-type]
    assert tool.description is not None
    assert "Installed: Python with its standard library. Name" in tool.description
    client.error = None
    for _ in range(2):
        tool, *_ = await tools.listed(client)  # type: ignore[arg-type]
        assert tool.description is not None
        assert "Python 3.13.1 with its standard library, numpy 2.1." in tool.description
    assert len(client.asked) == 2


async def test_a_server_that_does_not_answer_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pgexec.mcp.tools.ASK_WITHIN_S", 0.01)

    class Silent(FakeClient):
        async def run(self, code: str, **options: Any) -> CompletedRun:
            await asyncio.Event().wait()
            raise AssertionError

    tool, *_ = await Tools("python").listed(Silent())  # type: ignore[arg-type]
    assert tool.name == "run_python"


async def test_clients_are_kept_by_key_and_only_unused_ones_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pgexec.mcp.clients.MAX_KEPT", 2)
    clients = Clients("http://127.0.0.1:9")
    async with clients.lend("first") as first:
        for number in range(3):
            async with clients.lend(str(number)):
                pass
        async with clients.lend("first") as again:
            assert again is first
        assert len(clients._kept) == 2
        assert not first._http.is_closed
    await clients.close()
    assert first._http.is_closed


async def test_an_address_or_a_key_that_is_none_is_refused_before_anything_is_sent() -> None:
    for url, key, sentence in (
        ("http://a:b", "", "the address 'http://a:b' is wrong"),
        ("http://a", "\u20ac", "printable ASCII"),
        ("http://a", "a\nb", "printable ASCII"),
    ):
        with pytest.raises(RunRefused, match=sentence):
            async with Clients(url).lend(key):
                pass


async def in_session(
    client: FakeClient, tools: Tools | None = None, name: str = "run_in_session", **arguments: Any
) -> CallToolResult:
    return await (tools or Tools("python")).call(client, name, arguments, Told().progress)  # type: ignore[arg-type]


async def test_a_session_begins_without_an_id_and_goes_on_with_the_one_it_told() -> None:
    cell = dataclasses.replace(
        RESULT, value="3", restarted=True, displays=(Display("image/png", "AQID"),)
    )
    client = FakeClient(RunEvent("result", result=cell))
    answer = await in_session(client, code="1 + 2", dependencies=["numpy"])
    assert client.asked[0] == {"language": "python", "dependencies": ["numpy"]}
    assert client.asked[1]["session"] == "new"
    assert client.asked[1]["collect"] == []
    for said in ("hi\nvalue: 3\n", "was restarted", "[session_id: new]"):
        assert said in text(answer)
    assert isinstance(answer.content[1], ImageContent)
    record = answer.structured_content
    assert (record["session_id"], record["value"], record["restarted"]) == ("new", "3", True)
    await in_session(client, code="4", session_id="old")
    assert client.asked[2]["session"] == "old"
    assert client.ended == []


async def test_a_session_whose_id_nobody_learns_is_ended() -> None:
    for client in (
        FakeClient(error=RunRefused("wrong", code="invalid")),
        FakeClient(error=ZeroDivisionError()),
    ):
        assert (await in_session(client, code="1")).is_error
        assert client.ended == ["new"]
    client = FakeClient(ends=False)
    task = asyncio.create_task(in_session(client, code="1"))
    for _ in range(5):
        await asyncio.sleep(0)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert (client.closed, client.ended) == (1, ["new"])
    client = FakeClient(error=RunRefused("busy", code="session_busy", status=409))
    assert (await in_session(client, code="1", session_id="old")).is_error
    assert client.ended == []


async def test_the_end_of_the_client_ends_the_sessions_that_it_began() -> None:
    client, tools = FakeClient(RunEvent("result", result=RESULT)), Tools("python")
    await in_session(client, tools, code="1")
    await in_session(client, tools, code="1", session_id="another")
    await tools.end_sessions(client)  # type: ignore[arg-type]
    assert client.ended == ["new"]
    client.ended.clear()
    await in_session(client, tools, "end_session", session_id="new")
    await tools.end_sessions(client)  # type: ignore[arg-type]
    assert client.ended == ["new"]


async def test_what_has_ended_is_said_with_the_way_on() -> None:
    client = FakeClient()
    client.gone = True
    answer = await in_session(client, name="end_session", session_id="old")
    assert answer.is_error
    assert text(answer).startswith("Nothing ran: it was idle. Its variables and files are gone; ")
    answer = await in_session(client, code="1", session_id="old", dependencies=["x"])
    assert "leave out session_id" in text(answer)


async def test_a_file_is_read_in_parts_and_news_are_not_lost() -> None:
    long = ("a" * MAX_CHARS + "b").encode()
    client = FakeClient()
    client.result = dataclasses.replace(
        RESULT, restarted=True, files={"a[1].txt": ReturnedFile("a[1].txt", len(long), long)}
    )
    answer = await in_session(client, name="read_file", session_id="s", name_="")
    assert answer.is_error
    read = {"session_id": "s", "name": "./a[1].txt"}
    answer = await Tools("python").call(client, "read_file", read, Told().progress)  # type: ignore[arg-type]
    assert client.asked[0]["collect"] == ["a[[]1].txt"]
    assert text(answer).endswith(f"of {MAX_CHARS + 1:,}; the next part: offset {MAX_CHARS}]")
    news = [block.text for block in answer.content[1:] if isinstance(block, TextContent)]
    assert news[0] == "output meanwhile:\nhi\n"
    assert "was restarted" in news[1]
    read["offset"] = MAX_CHARS  # type: ignore[assignment]
    answer = await Tools("python").call(client, "read_file", read, Told().progress)  # type: ignore[arg-type]
    assert text(answer).startswith("b\n[characters 20,000 to 20,001")
    client.result = RESULT
    answer = await Tools("python").call(client, "read_file", read, Told().progress)  # type: ignore[arg-type]
    assert answer.is_error
    assert "There is no file './a[1].txt'" in text(answer)


async def read_a(client: FakeClient, **options: int) -> CallToolResult:
    read = {"session_id": "s", "name": "a.txt", **options}
    return await Tools("python").call(client, "read_file", read, Told().progress)  # type: ignore[arg-type]


async def test_a_file_that_is_not_read_is_refused_with_the_reason() -> None:
    client = FakeClient()
    client.result = dataclasses.replace(RESULT, stdout="", data="")
    assert "the directory in which the session began" in text(await read_a(client))
    client.result = dataclasses.replace(client.result, files_omitted="there was no time")
    assert text(await read_a(client)) == "'a.txt' did not come, as not all did: there was no time."
    large = ReturnedFile("a.txt", 20_000_000, None, "the files together are over the limit")
    client.result = dataclasses.replace(RESULT, files={"a.txt": large})
    answer = await read_a(client)
    assert answer.is_error
    assert "has 20,000,000 bytes and is not given: the files together" in text(answer)
    assert "print a part of it" in text(answer)
    client.result = dataclasses.replace(RESULT, files={"a.txt": ReturnedFile("a.txt", 2, b"ab")})
    assert text(await read_a(client, offset=9)).startswith(
        "[the text ends before offset 9: it has 2"
    )
    assert text(await read_a(client, offset=2)).startswith(
        "[the text ends before offset 2: it has 2"
    )
