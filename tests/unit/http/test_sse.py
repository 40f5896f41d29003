"""The answer as a stream of events, over a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgexec.http import sse as events
from pgexec.http.errors import HINTS
from pgexec.http.sse import wants_events
from pool import errors as pool
from pool.inside.protocol import Kind
from tests import sse
from tests.unit.http.rig import make_result

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from pgexec.service import Progress
    from tests.unit.http.rig import Running, Serve

CODE = {"language": "python", "code": "print(1)"}
BODY = json.dumps(CODE).encode()
REQUEST = (
    b"POST /run HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    b"Accept: text/event-stream\r\nContent-Length: %d\r\n\r\n" % len(BODY)
) + BODY


async def stream(server: Running, **headers: str) -> list[sse.Event]:
    answer = await server.post(CODE, **sse.ASK, **headers)
    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/event-stream")
    return list(sse.parse(answer.body))


@contextlib.asynccontextmanager
async def streaming(server: Running) -> AsyncIterator[AsyncIterator[sse.Event]]:
    async with (
        asyncio.timeout(20),
        server.session.post(server.url + "/run", json=CODE, headers=sse.ASK) as response,
    ):
        yield sse.read(response.content)


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("text/event-stream", True),
        ("Text/Event-Stream; charset=utf-8", True),
        ("text/event-stream, */*;q=0.1", True),
        ("application/json;q=0.9, text/event-stream", True),
        ("application/json, text/event-stream", True),
        ("text/event-stream;q=0.5, */*;q=0.9, application/json;q=0.1", True),
        ("text/event-stream;q=0.5, application/json", False),
        ("text/event-stream;q=0.5, */*", False),
        ("text/event-stream;q=0.5, application/*;q=0.6, */*;q=0.1", False),
        ("text/event-stream;q=0", False),
        ("text/event-stream;q=lots", False),
        ("text/event-stream;q=nan", False),
        ("text/event-stream;q=-1", False),
        ("text/event-streams", False),
        ("application/json", False),
        ("text/*", False),
        ("*/*", False),
        ("", False),
        (",;q=,;;=,", False),
    ],
)
def test_a_stream_is_for_those_who_name_it_and_want_it_no_less_than_json(
    accept: str, *, wanted: bool
) -> None:
    assert wants_events(accept) is wanted


async def test_a_plain_answer_stays_what_it_was(server: Running) -> None:
    for accept in ("*/*", "application/json", "text/html"):
        answer = await server.post(CODE, Accept=accept)
        assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
        assert answer.json["data"] == "1\n"


async def test_the_last_event_is_the_document_of_the_plain_answer(server: Running) -> None:
    server.service.result = make_result(data=b"a\r\n\n\xff", stdout=b"a\r\n\n\xff")
    plain = await server.post(CODE)
    answer = await server.post(CODE, **sse.ASK)
    assert answer.body.endswith(b"event: result\ndata: " + plain.body + b"\n\n")


async def test_the_whole_story_is_told_in_order(server: Running) -> None:
    async def script(progress: Progress) -> None:
        progress.queued(3)
        await server.get("/ping")  # so that the first position is on its way
        progress.queued(2)
        progress.queued(1)
        progress.line("Resolved 1 package")
        progress.leased()
        progress.output(Kind.STDOUT, b"one\r\n\n")
        progress.output(Kind.STDERR, b"two")
        progress.output(Kind.STDERR, b" three")

    server.service.script = script
    told = await stream(server)
    assert told[-1][0] == "result"
    assert told[:-1] == [
        ("queue", {"position": 3}),
        ("queue", {"position": 1}),
        ("install", {"line": "Resolved 1 package"}),
        ("stdout", {"text": "one\r\n\n"}),
        ("stderr", {"text": "two three"}),
    ]


async def test_output_comes_while_the_snippet_runs(server: Running) -> None:
    async def script(progress: Progress) -> None:
        progress.leased()
        progress.output(Kind.STDOUT, b"first\n")

    server.service.script = script
    server.service.gate = asyncio.Event()
    async with streaming(server) as told:
        assert [await anext(told)] == [("stdout", {"text": "first\n"})]
        server.service.gate.set()  # so the run cannot have ended before
        assert (await anext(told))[0] == "result"


async def test_the_head_comes_before_any_output(server: Running) -> None:
    async def script(progress: Progress) -> None:
        progress.leased()

    server.service.script = script
    server.service.gate = asyncio.Event()
    async with streaming(server) as told:
        assert await anext(told) == ("", "")
        server.service.gate.set()
        assert (await anext(told))[0] == "result"


async def test_silence_is_broken_by_comments(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "KEEPALIVE_S", 0.01)
    server.service.gate = asyncio.Event()

    async def script(progress: Progress) -> None:
        progress.queued(1)

    server.service.script = script
    async with streaming(server) as told:
        assert [await anext(told) for _ in range(3)] == [
            ("queue", {"position": 1}),
            ("", "keep-alive"),
            ("", "keep-alive"),
        ]
        server.service.gate.set()
        assert "result" in [name async for name, _ in until_result(told)]


async def until_result(told: AsyncIterator[sse.Event]) -> AsyncIterator[sse.Event]:
    async for event in told:
        yield event
        if event[0] == "result":
            return


async def test_proxies_and_caches_keep_their_hands_off(server: Running) -> None:
    answer = await server.post(CODE, **sse.ASK, **{"X-Request-ID": "abc"})
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Accel-Buffering"] == "no"
    assert answer.headers["X-Request-ID"] == "abc"
    assert answer.headers["Server"] == "pgexec"
    assert "total;dur=" in answer.headers["Server-Timing"]


async def test_one_connection_carries_one_stream_after_the_other(server: Running) -> None:
    for _ in range(3):
        assert [name for name, _ in await stream(server)] == ["result"]


async def test_a_stream_in_http_1_0_ends_with_its_connection(server: Running) -> None:
    reader, writer = await server.connect()
    writer.write(REQUEST.replace(b"HTTP/1.1\r\n", b"HTTP/1.0\r\nConnection: keep-alive\r\n"))
    async with asyncio.timeout(20):
        whole = await reader.read()
    assert list(sse.parse(whole.partition(b"\r\n\r\n")[2]))[-1][0] == "result"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (pool.PoolSaturated("the queue is full", retry_after_s=2.2), 503),
        (pool.TenantSaturated("8 runs already", retry_after_s=2.2), 429),
        (pool.InstallError("pip failed", log="?"), 422),
        (ZeroDivisionError(), 500),
    ],
)
async def test_a_failure_before_anything_was_told_is_an_ordinary_error(
    server: Running, error: Exception, status: int
) -> None:
    server.service.error = error
    answer = await server.post(CODE, **sse.ASK)
    assert answer.status == status
    assert answer.headers["Content-Type"].startswith("application/json")
    assert answer.json["data"] is None
    assert ("Retry-After" in answer.headers) == (status in {429, 503})


async def test_a_bad_request_for_a_stream_is_an_ordinary_error(serve: Serve) -> None:
    server = await serve(api_keys="alice:one")
    assert (await server.post(CODE, **sse.ASK)).status == 401
    key = {"Authorization": "Bearer one", **sse.ASK}
    assert (await server.post({}, **key)).json["code"] == "missing_field"
    assert (await server.post(CODE, **key, **{"Content-Type": "text/plain"})).status == 415


@pytest.mark.parametrize(
    ("error", "document"),
    [
        (
            pool.LeaseTimeout("no container came free", retry_after_s=2.2),
            {
                "data": None,
                "error": f"no container came free; {HINTS['lease_timeout']}",
                "code": "lease_timeout",
                "status": 503,
                "retry_after_s": 3,
            },
        ),
        (
            pool.InstallError("pip failed", log="no such package"),
            {
                "data": None,
                "error": "pip failed\nno such package",
                "code": "install_failed",
                "status": 422,
            },
        ),
    ],
)
async def test_a_failure_after_that_is_the_last_event(
    server: Running, error: Exception, document: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def script(progress: Progress) -> None:
        progress.queued(1)

    caplog.set_level(logging.INFO, "pgexec.request")
    server.service.script, server.service.error = script, error
    assert await stream(server) == [("queue", {"position": 1}), ("error", document)]
    await server.get("/ping")
    logged = vars(caplog.records[0])["fields"]
    assert (logged["status"], logged["code"]) == (document["status"], document["code"])
    text = (await server.get("/metrics")).body.decode()
    assert f'pgexec_requests_total{{path="/run",status="{document["status"]}"}} 1.0' in text


async def test_a_bug_after_that_is_neutral_to_the_client_and_in_the_log(
    server: Running, caplog: pytest.LogCaptureFixture
) -> None:
    async def script(progress: Progress) -> None:
        progress.output(Kind.STDOUT, b"so far \xe2\x82")
        raise ZeroDivisionError("secret detail")

    server.service.script = script
    told = await stream(server)
    assert told[0] == ("stdout", {"text": "so far "})
    assert told[1] == ("stdout", {"text": "\ufffd"})
    assert (told[2][0], told[2][1]["code"], told[2][1]["status"]) == ("error", "internal", 500)
    assert "secret" not in str(told)
    (record,) = [record for record in caplog.records if record.exc_info]
    assert "secret detail" in str(record.exc_info)


async def test_hanging_up_ends_the_run(server: Running, caplog: pytest.LogCaptureFixture) -> None:
    async def script(progress: Progress) -> None:
        progress.output(Kind.STDOUT, b"first")

    caplog.set_level(logging.INFO, "pgexec.request")
    server.service.script = script
    server.service.gate = asyncio.Event()
    reader, writer = await server.connect()
    writer.write(REQUEST)
    async with asyncio.timeout(20):
        await reader.readuntil(b"first")
        writer.close()
        await server.service.cancelled.wait()
    await server.get("/ping")
    codes = [vars(record)["fields"].get("code") for record in caplog.records]
    assert [code for code in codes if code] == ["client_gone"]
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "write events"]


async def test_a_client_that_leaves_with_the_last_event_is_not_gone(
    server: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The server is slow between its pieces, so that it would notice any client that leaves."""
    caplog.set_level(logging.INFO, "pgexec.request")
    sleep = asyncio.sleep
    monkeypatch.setattr(asyncio, "sleep", lambda seconds: sleep(max(seconds, 0.1)))
    reader, writer = await server.connect()
    writer.write(REQUEST)
    async with asyncio.timeout(20):
        await reader.readuntil(b"event: result\ndata: ")
        await reader.readuntil(b"\n\n")
        writer.close()
    await sleep(0.3)
    (run,) = [one for one in caplog.records if vars(one)["fields"]["path"] == "/run"]
    assert (vars(run)["fields"]["status"], vars(run)["fields"].get("code")) == (200, None)


async def test_a_client_that_takes_nothing_does_not_hold_up_the_run_and_is_cut_off(
    server: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(events, "STALL_S", 0.2)
    caplog.set_level(logging.INFO, "pgexec.request")
    ran = asyncio.Event()

    async def script(progress: Progress) -> None:
        for _ in range(64):  # more than the kernel keeps for a client
            progress.output(Kind.STDOUT, b"x" * (1 << 20))
        ran.set()

    server.service.script = script
    reader, writer = await server.connect()
    reader._transport.pause_reading()  # type: ignore[attr-defined]
    writer.write(REQUEST)
    async with asyncio.timeout(20):
        await ran.wait()
        while not caplog.records:  # nobody tells
            await server.get("/ping")
            caplog.handler.records[:] = [
                one for one in caplog.records if vars(one)["fields"]["path"] == "/run"
            ]
    fields = vars(caplog.records[0])["fields"]
    assert (fields["status"], fields["code"]) == (499, "client_gone")


async def test_a_flood_that_changes_streams_at_every_byte_costs_little() -> None:
    backlog = events._Backlog()
    for _ in range(50_000):
        backlog.add(Kind.STDOUT, b"1")
        backlog.add(Kind.STDERR, b"2")
    assert backlog._data.__sizeof__() + backlog._sizes.__sizeof__() < 100_000 * 12
    assert [backlog.take(9) for _ in range(3)] == [
        (Kind.STDOUT, b"1"),
        (Kind.STDERR, b"2"),
        (Kind.STDOUT, b"1"),
    ]


pieces = st.lists(
    st.tuples(
        st.sampled_from([Kind.STDOUT, Kind.STDERR]),
        st.binary(min_size=1, max_size=12) | st.text(min_size=1, max_size=6).map(str.encode),
        st.booleans(),
    )
)


def cut(text: bytes, at: int) -> Iterator[bytes]:
    for start in range(0, len(text), at):
        yield text[start : start + at]


@given(pieces=pieces, at=st.integers(1, 5), limit=st.integers(1, 5))
def test_the_events_of_a_stream_add_up_to_what_the_result_says(
    pieces: list[tuple[Kind, bytes, bool]], at: int, limit: int
) -> None:
    unsent = events.Unsent()
    sent = bytearray()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(events, "CHUNK_BYTES", limit)
        for kind, data, taken in pieces:
            for piece in cut(data, at):
                unsent.output.add(kind, piece)
            if taken:
                sent += unsent.take()
        unsent.finish((b"result", (b"nu", b"ll")))
        while chunk := unsent.take():
            sent += chunk
    *texts, last = sse.parse(bytes(sent))
    assert last == ("result", None)
    for kind, name in ((Kind.STDOUT, "stdout"), (Kind.STDERR, "stderr")):
        whole = b"".join(data for one, data, _ in pieces if one is kind)
        assert "".join(data["text"] for one, data in texts if one == name) == whole.decode(
            "utf-8", "replace"
        )
