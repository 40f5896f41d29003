"""Runs as event streams, from a real server with real containers."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from aiohttp import ClientSession, ClientTimeout

from tests import sse
from tests.integration.server import GATE, WITHIN_S, run_request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.integration.server import Server, StartServer

FOREVER = "import time\nwhile True:\n    time.sleep(60)\n"


@contextlib.asynccontextmanager
async def streaming(
    server: Server, code: str, *, request_id: str = ""
) -> AsyncIterator[AsyncIterator[sse.Event]]:
    """Ask for a run as a stream; leaving the context hangs up."""
    body = {"language": "python", "code": code}
    headers = {**sse.ASK, **({"X-Request-ID": request_id} if request_id else {})}
    async with (
        ClientSession(timeout=ClientTimeout(WITHIN_S)) as session,
        session.post(f"http://127.0.0.1:{server.port}/run", json=body, headers=headers) as answer,
    ):
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "text/event-stream"
        yield sse.read(answer.content)


async def told_by(server: Server, code: str) -> list[sse.Event]:
    """Return all events of a run."""
    told = []
    async with streaming(server, code) as events:
        async for event in events:
            told.append(event)
            if event[0] in {"result", "error"}:
                break
    return told


def text(told: list[sse.Event], stream: str) -> str:
    return "".join(data["text"] for name, data in told if name == stream)


async def test_output_arrives_while_the_snippet_runs(server: Server) -> None:
    code = "print('first')\n" + GATE + "print('second')"
    async with streaming(server, code) as events:
        told = [await anext(events)]
        if told == [("", "")]:  # the head came first
            told = [await anext(events)]
        assert told == [("stdout", {"text": "first\n"})]
        await server.open_gates()  # until now the snippet could not have ended
        told += [event async for event in until_result(events)]
    assert text(told, "stdout") == "first\nsecond\n"
    name, result = told[-1]
    assert (name, result["status"], result["data"]) == ("result", "ok", "first\nsecond\n")


async def test_the_head_says_that_there_was_no_wait(server: Server) -> None:
    await server.at_rest()
    body = {"language": "python", "code": "print(1)"}
    answer = await server.request("POST", "/run", json=body, headers=sse.ASK)
    assert answer.headers["Server-Timing"].startswith("queue;dur=0.000, total;dur=")


async def until_result(events: AsyncIterator[sse.Event]) -> AsyncIterator[sse.Event]:
    async for event in events:
        yield event
        if event[0] == "result":
            return


async def test_each_kind_of_output_arrives_at_once_in_its_order(server: Server) -> None:
    code = (
        "import sys\n"
        "sys.stderr.write('to stderr'); sys.stderr.flush()\n"
        "sys.stdout.write('no line end'); sys.stdout.flush()\n"
        "sys.stdout.buffer.write('é'.encode()[:1]); sys.stdout.flush()\n" + FOREVER
    )
    async with streaming(server, code) as events:
        told: list[sse.Event] = []
        async with asyncio.timeout(WITHIN_S):
            while text(told, "stdout") != "no line end":
                told.append(await anext(events))
    assert [name for name, _ in told if name] == ["stderr", "stdout"]
    assert text(told, "stderr") == "to stderr"


async def test_the_result_is_the_plain_answers_and_the_output_adds_up_to_it(
    server: Server,
) -> None:
    code = (
        "import sys\n"
        "for n in range(300):\n"
        "    print(n, 'é€😀'); print('err', n, file=sys.stderr)\n"
        "for piece in b'\\xff\\xe2\\x82', '€'.encode()[1:]:\n"
        "    sys.stdout.buffer.write(piece); sys.stdout.flush()\n"
        "sys.stderr.buffer.write(b'\\xe2\\x82'); sys.exit(3)"
    )
    plain = (await server.run(code)).json
    told = await told_by(server, code)
    name, result = told[-1]
    measured = {"duration_s", "cpu_s", "peak_memory_bytes"}
    assert name == "result"
    assert list(result) == list(plain)
    assert {key: result[key] for key in result.keys() - measured} == {
        key: plain[key] for key in plain.keys() - measured
    }
    assert text(told, "stdout") == result["stdout"]
    assert text(told, "stderr") == result["stderr"]


async def test_output_up_to_its_limit_arrives(server: Server) -> None:
    told = await told_by(server, "while True:\n    print('x' * 1000)")
    name, result = told[-1]
    assert (name, result["status"], result["truncated"]) == ("result", "output_limit", True)
    assert text(told, "stdout") == result["stdout"]
    assert len(result["stdout"]) == 1 << 20


async def test_hanging_up_ends_the_run_and_frees_its_place(start: StartServer) -> None:
    server = await start(POOL_MIN_IDLE=1, POOL_MAX_CONTAINERS=1)
    async with streaming(server, "print('on')\n" + FOREVER, request_id="hangs-up") as events:
        async with asyncio.timeout(WITHIN_S):
            while (await anext(events))[0] != "stdout":
                pass
    entry = await server.logged("request", request_id="hangs-up")
    assert (entry["status"], entry["code"]) == (499, "client_gone")
    assert len(entry["container"]) == 12
    await server.works()  # in the one place that there is


async def test_who_waits_hears_its_place_in_the_queue(start: StartServer) -> None:
    server = await start(POOL_MIN_IDLE=1, POOL_MAX_CONTAINERS=1)
    running = asyncio.create_task(server.run(GATE))
    await server.sees("pgexec_containers{state=leased}", 1)
    async with streaming(server, "print(1)") as first, contextlib.AsyncExitStack() as stack:
        assert await anext(first) == ("queue", {"position": 1})
        second = await stack.enter_async_context(streaming(server, "print(2)"))
        assert await anext(second) == ("queue", {"position": 2})
        await server.open_gates()
        assert (await running).status == 200
        names = [name async for name, _ in until_result(first)]
        assert names[-2:] == ["stdout", "result"]
        told = [event async for event in until_result(second)]
    assert ("queue", {"position": 1}) in told
    assert told[-1][1]["data"] == "2\n"


async def test_who_waits_in_vain_gets_an_error_as_the_last_event(start: StartServer) -> None:
    server = await start(POOL_MIN_IDLE=1, POOL_MAX_CONTAINERS=1, LEASE_TIMEOUT_S=1)
    running = asyncio.create_task(server.run(GATE))
    await server.sees("pgexec_containers{state=leased}", 1)
    told = await told_by(server, "print(1)")
    assert told[0] == ("queue", {"position": 1})
    name, problem = told[-1]
    assert (name, problem["code"], problem["status"]) == ("error", "lease_timeout", 503)
    await server.open_gates()
    await running


async def test_a_container_that_is_lost_while_it_runs_is_an_error_in_the_stream(
    start: StartServer,
) -> None:
    server = await start(POOL_MIN_IDLE=1, POOL_MAX_CONTAINERS=2)
    async with streaming(server, "print('on')\n" + FOREVER) as events:
        async with asyncio.timeout(WITHIN_S):
            while (await anext(events))[0] != "stdout":
                pass
        for one in await server.containers():
            await server.engine.remove(one)
        name, problem = await anext(events)
    assert (name, problem["code"], problem["status"]) == ("error", "container_lost", 502)
    assert "retry_after_s" not in problem
    await server.works()


async def test_a_client_that_takes_nothing_gets_all_of_it_later(server: Server) -> None:
    code = "for n in range(10_000):\n    print('x' * 79)"
    async with server.connection(with_accept(run_request(code))) as (reader, _):
        # Nothing is read until the run has ended and its container is back.
        await server.at_rest()
        async with asyncio.timeout(WITHIN_S):
            whole = b""
            while not whole.endswith(b"\r\n0\r\n\r\n"):
                whole += await reader.read(1 << 16)
    head, _, body = whole.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    told = list(sse.parse(unchunked(body)))
    assert text(told, "stdout") == ("x" * 79 + "\n") * 10_000
    assert told[-1][0] == "result"


def with_accept(request: bytes) -> bytes:
    return request.replace(b"\r\n", b"\r\nAccept: text/event-stream\r\n", 1)


def unchunked(body: bytes) -> bytes:
    whole = b""
    while True:
        size, _, body = body.partition(b"\r\n")
        if not (length := int(size, 16)):
            return whole
        whole += body[:length]
        body = body[length + 2 :]
