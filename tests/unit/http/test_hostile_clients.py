"""What is not quite HTTP, or comes too slowly: an answer in JSON, and a server as it was."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
from typing import TYPE_CHECKING

import pytest

from pgexec.http.pace import LEAST_BYTES_PER_S, Pace, untaken_bytes
from pgexec.http.server import MAX_PIPELINED, Connection
from tests.unit.http.rig import make_result, read_answer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.unit.http.rig import Running, Serve

BODY = b'{"language": "python", "code": "print(1)"}'
HEAD = b"POST /run HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
WHOLE = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
SLOW = {"request_timeout_s": 0.05}


@pytest.fixture(autouse=True)
async def _nothing_is_an_error(caplog: pytest.LogCaptureFixture) -> AsyncIterator[None]:
    yield
    loud = [record for record in caplog.get_records("call") if record.levelno >= logging.WARNING]
    assert not loud, [record.getMessage() for record in loud]


async def until_closed(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(20):
        return await reader.read()


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"garbage\r\n\r\n", 400, "bad_request"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "bad_request"),
        (b"GET\r\n\r\n", 400, "bad_request"),
        (b"GET /ping HTTP/9.9\r\nHost: x\r\n\r\n", 400, "bad_request"),
        (b"GET /ping HTTP/1.1\r\n\r\n", 400, "bad_request"),
        (b"GET /ping HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n", 400, "bad_request"),
        (b"GET /ping HTTP/1.1\r\nHost: x\r\nA: b\0c\r\n\r\n", 400, "bad_request"),
        (HEAD + b"Content-Length: -1\r\n\r\n", 400, "bad_request"),
        (HEAD + b"Content-Length: x\r\n\r\n", 400, "bad_request"),
        (HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n{}", 400, "bad_request"),
        (HEAD + b"Content-Length: 99999999999999999999999\r\n\r\n", 400, "bad_request"),
        (
            HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
            "bad_request",
        ),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400, "bad_request"),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414, "uri_too_long"),
        (b"GET /ping HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 9000, 431, "header_too_large"),
        (
            b"GET /ping HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 200 + b"\r\n",
            431,
            "header_too_large",
        ),
        (HEAD + b"\r\n", 400, "invalid_json"),
        (HEAD + b"Content-Length: 0\r\n\r\n", 400, "invalid_json"),
        (HEAD + b"Content-Length: 50000000\r\n\r\n", 413, "body_too_large"),
    ],
)
async def test_each_kind_of_garbage_has_an_answer_in_json(
    server: Running, data: bytes, status: int, code: str
) -> None:
    answer = await server.raw(data)
    assert (answer.status, answer.json["code"]) == (status, code)
    assert set(answer.json) == {"data", "error", "code"}
    assert "\n" not in answer.json["error"]
    assert (await server.get("/ping")).status == 200


async def test_after_garbage_the_connection_is_closed(server: Running) -> None:
    reader, writer = await server.connect()
    writer.write(b"garbage\r\n\r\n")
    assert (await read_answer(reader)).status == 400
    assert await until_closed(reader) == b""


async def test_bad_framing_after_a_good_start_is_a_400(server: Running) -> None:
    reader, writer = await server.connect()
    writer.write(HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{    \r\n")
    await server.get("/ping")
    writer.write(b"zz\r\n")
    assert (await read_answer(reader)).status == 400
    assert await until_closed(reader) == b""


async def test_a_body_in_chunks_is_read(server: Running) -> None:
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in BODY) + b"0\r\n\r\n"
    assert (await server.raw(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)).status == 200


async def test_chunks_beyond_the_limit_are_a_413(serve: Serve) -> None:
    server = await serve(
        code_limit=1, stdin_limit=1, files_limit=0
    )  # so the body may have 64 KiB and a bit
    chunks = (b"1000\r\n" + b" " * 4096 + b"\r\n") * 17
    answer = await server.raw(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)
    assert (answer.status, answer.json["code"]) == (413, "body_too_large")


async def test_a_body_of_the_largest_size_is_read_in_pieces(serve: Serve) -> None:
    server = await serve()
    body = json.dumps({"language": "python", "code": "\x01" * (1 << 20)}).encode()
    assert len(body) > 6 << 20
    assert (await server.post(body)).status == 200
    assert len(server.service.requests[0].code) == 1 << 20


async def test_code_over_the_limit_is_a_413(serve: Serve) -> None:
    server = await serve(code_limit="1k")
    answer = await server.post({"language": "python", "code": "é" * 513})
    assert (answer.status, answer.json["code"]) == (413, "code_too_large")
    assert (await server.post({"language": "python", "code": "é" * 512})).status == 200


async def test_a_head_that_dribbles_in_is_a_408(serve: Serve) -> None:
    server = await serve(**SLOW)
    reader, writer = await server.connect()
    writer.write(b"POST /run HT")
    answer = await read_answer(reader)
    assert (answer.status, answer.json["code"]) == (408, "request_timeout")
    assert await until_closed(reader) == b""


async def test_a_second_head_that_dribbles_in_is_a_408(serve: Serve) -> None:
    server = await serve(**SLOW)
    reader, writer = await server.connect()
    writer.write(WHOLE)
    assert (await read_answer(reader)).status == 200
    writer.write(b"POST /run HT")
    assert (await read_answer(reader)).status == 408
    assert await until_closed(reader) == b""


@pytest.mark.parametrize("behind_a_run", [False, True])
async def test_a_head_that_never_ends_is_not_kept(server: Running, *, behind_a_run: bool) -> None:
    reader, writer = await server.connect()
    if behind_a_run:
        server.service.gate = asyncio.Event()
        writer.write(WHOLE)
        await server.service.entered.wait()
    writer.write(b"GET /ping HTTP/1.1\r\nHost: x\r\n")
    for number in range(9):
        writer.write(b"A%d: %b\r\n" % (number, b"a" * 8000))
        await writer.drain()
        await server.get("/ping")
    if server.service.gate is not None:
        server.service.gate.set()
        assert (await read_answer(reader)).status == 200
    else:
        answer = await read_answer(reader)
        assert (answer.status, answer.json["code"]) == (431, "header_too_large")
    assert await until_closed(reader) == b""


async def test_trailers_that_never_end_are_not_kept(server: Running) -> None:
    reader, writer = await server.connect()
    writer.write(HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n")
    for number in range(10):
        writer.write(b"A%d: %b\r\n" % (number, b"a" * 8000))
        await writer.drain()
        await server.get("/ping")
    answer = await read_answer(reader)
    assert (answer.status, answer.json["code"]) == (400, "bad_request")
    assert "over 64 KiB" in answer.json["error"]
    assert await until_closed(reader) == b""


async def test_requests_behind_a_run_stay_unread(server: Running) -> None:
    server.service.gate = asyncio.Event()
    reader, writer = await server.connect()
    writer.write(WHOLE)
    await server.service.entered.wait()
    chunked = HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 900 + b"0\r\n\r\n"
    writer.write(chunked * 20)
    await writer.drain()
    await server.get("/ping")
    (busy,) = (one for one in connections_of(server) if one._messages)
    assert len(busy._messages) == MAX_PIPELINED
    assert {tuple(content._buffer) for _, content in busy._messages} == {(b"x" * 900,)}
    server.service.gate.set()
    assert (await read_answer(reader)).status == 200
    for _ in range(20):
        assert (await read_answer(reader)).status == 400


async def test_a_body_of_many_small_chunks_is_not_taken_for_trailers(server: Running) -> None:
    reader, writer = await server.connect()
    text = json.dumps({"language": "python", "code": "x" * (200 << 10)}).encode()
    writer.write(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    for at in range(0, len(text), 8):
        writer.write(b"%x\r\n%b\r\n" % (len(text[at : at + 8]), text[at : at + 8]))
    writer.write(b"0\r\nA: b\r\n\r\n" + WHOLE)
    assert (await read_answer(reader)).status == 200
    assert (await read_answer(reader)).status == 200


async def test_a_large_body_before_a_head_is_not_taken_for_one(server: Running) -> None:
    text = json.dumps({"language": "python", "code": "x" * (500 << 10)}).encode()
    request = HEAD + b"Content-Length: %d\r\n\r\n" % len(text) + text
    reader, writer = await server.connect()
    writer.write(request + request[:20])
    await writer.drain()
    assert (await read_answer(reader)).status == 200
    writer.write(request[20:])
    assert (await read_answer(reader)).status == 200


async def test_dribbling_on_does_not_buy_time(serve: Serve) -> None:
    server = await serve(**SLOW)
    reader, writer = await server.connect()

    async def dribble() -> None:
        writer.write(b"GET /ping HTTP/1.1\r\n")
        while True:
            writer.write(b"A: b\r\n")
            await asyncio.sleep(0.001)

    dribbling = asyncio.create_task(dribble())
    try:
        status = (await read_answer(reader)).status
    finally:
        dribbling.cancel()
    # A head with too many lines is refused, too, if the machine is slow.
    assert status in (408, 431)


async def test_a_body_that_dribbles_in_is_a_408(serve: Serve) -> None:
    server = await serve(**SLOW)
    reader, writer = await server.connect()
    writer.write(HEAD + b'Content-Length: 1000\r\n\r\n{"lang')
    answer = await read_answer(reader)
    assert (answer.status, answer.json["code"]) == (408, "request_timeout")
    assert answer.headers["Connection"] == "close"


async def test_a_connection_that_says_nothing_is_closed_without_a_word(serve: Serve) -> None:
    server = await serve(**SLOW)
    reader, _ = await server.connect()
    assert await until_closed(reader) == b""


async def test_a_run_may_take_longer_than_its_request(serve: Serve) -> None:
    server = await serve(**SLOW)
    server.service.gate = asyncio.Event()
    reader, writer = await server.connect()
    writer.write(WHOLE)
    await server.service.entered.wait()
    idle, _ = await server.connect()
    await until_closed(idle)  # by now a late head would have been answered
    server.service.gate.set()
    assert (await read_answer(reader)).status == 200


async def test_an_idle_connection_is_closed_after_the_keepalive_timeout(serve: Serve) -> None:
    server = await serve(keepalive_timeout_s=0.05)
    reader, writer = await server.connect()
    writer.write(WHOLE)
    assert (await read_answer(reader)).status == 200
    assert await until_closed(reader) == b""


async def test_a_connection_serves_one_request_after_the_other(server: Running) -> None:
    reader, writer = await server.connect()
    for _ in range(3):
        writer.write(WHOLE)
        assert (await read_answer(reader)).status == 200


async def test_requests_in_one_packet_are_answered_in_turn(server: Running) -> None:
    reader, writer = await server.connect()
    writer.write(WHOLE * 3)
    for _ in range(3):
        assert (await read_answer(reader)).status == 200


async def test_a_refused_request_does_not_spoil_the_next_one(server: Running) -> None:
    reader, writer = await server.connect()
    writer.write(HEAD + b"Content-Length: 2\r\n\r\n{}" + WHOLE)
    assert (await read_answer(reader)).status == 400
    assert (await read_answer(reader)).status == 200


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 1000\r\n\r\n{", b"Transfer-Encoding: chunked\r\n\r\n5\r\n{"]
)
@pytest.mark.parametrize("at_once", [True, False])
async def test_half_a_body_and_the_end_is_a_400(
    server: Running, framing: bytes, *, at_once: bool
) -> None:
    reader, writer = await server.connect()
    writer.write(HEAD + framing)
    if not at_once:
        await server.get("/ping")
    writer.write_eof()
    answer = await read_answer(reader)
    assert (answer.status, answer.json["code"]) == (400, "bad_request")
    assert answer.json["error"] == "the body ended before it was complete"
    assert await until_closed(reader) == b""
    assert not server.service.requests


async def test_the_end_behind_a_whole_request_is_a_hang_up(server: Running) -> None:
    server.service.gate = asyncio.Event()
    reader, writer = await server.connect()
    writer.write(WHOLE)
    await server.service.entered.wait()
    writer.write_eof()
    async with asyncio.timeout(20):
        await server.service.cancelled.wait()
    assert await until_closed(reader) == b""


async def test_a_body_that_is_sent_by_halves_and_given_up_is_forgotten(server: Running) -> None:
    _, writer = await server.connect()
    writer.write(HEAD + b'Content-Length: 1000\r\n\r\n{"lang')
    await writer.drain()
    await server.get("/ping")
    writer.close()
    await writer.wait_closed()
    assert (await server.get("/ping")).status == 200
    assert not server.service.requests


async def test_a_head_that_is_given_up_is_forgotten(server: Running) -> None:
    _, writer = await server.connect()
    writer.write(b"POST /ru")
    await writer.drain()
    writer.transport.abort()
    assert (await server.get("/ping")).status == 200


# --- clients that do not take their answer --------------------------------------------------

LONG = b"x" * (16 << 20)


async def slow_reader(server: Running) -> tuple[socket.socket, Connection]:
    """Ask for more than the kernel buffers, and read nothing of it yet."""
    client = await ask_and_read_nothing(server)
    (connection,) = connections_of(server)
    return client, connection


async def ask_and_read_nothing(server: Running) -> socket.socket:
    server.service.result = make_result(data=LONG, stdout=LONG)
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 10)
    client.settimeout(0)
    loop = asyncio.get_running_loop()
    before = connections_of(server)
    await loop.sock_connect(client, ("127.0.0.1", server.port))
    await loop.sock_sendall(client, WHOLE)
    await server.service.entered.wait()
    async with asyncio.timeout(20):
        while not any(one.writing_paused for one in connections_of(server) if one not in before):
            await asyncio.sleep(0)
    return client


def held_bytes(server: Running) -> int:
    return server.context.answers.held_bytes


def is_watched(connection: Connection) -> bool:
    return connection._pace.watches


def connections_of(server: Running) -> list[Connection]:
    manager = server.server._runner.server
    assert manager is not None
    return [one for one in manager.connections if isinstance(one, Connection)]


async def test_a_client_that_takes_nothing_of_its_answer_is_disconnected(serve: Serve) -> None:
    server = await serve(stall_timeout_s=0.05)
    client, _ = await slow_reader(server)
    async with asyncio.timeout(20):
        while connections_of(server):
            await asyncio.sleep(0.01)
    client.close()
    assert (await server.get("/ping")).status == 200


async def test_a_client_that_takes_a_little_at_a_time_gets_its_whole_answer(serve: Serve) -> None:
    server = await serve(stall_timeout_s=3600)
    loop = asyncio.get_running_loop()
    client, connection = await slow_reader(server)
    transport = connection.transport
    assert transport is not None
    received, kernels = 0, 0
    async with asyncio.timeout(60):
        for _ in range(5):
            before, ours = untaken_bytes(transport), transport.get_write_buffer_size()
            while untaken_bytes(transport) >= before:
                received += len(await loop.sock_recv(client, 20_000))
            kernels += transport.get_write_buffer_size() == ours
            connection._pace.look(transport, before)  # what the timer does
            assert not transport.is_closing()
        assert kernels, "what only the kernel had was not counted"
        while received < len(LONG):
            received += len(await loop.sock_recv(client, 1 << 20))
    client.close()


async def test_a_client_that_keeps_up_is_not_watched(serve: Serve) -> None:
    server = await serve(stall_timeout_s=3600)
    client, connection = await slow_reader(server)
    loop = asyncio.get_running_loop()
    assert is_watched(connection)
    async with asyncio.timeout(60):
        while connection.writing_paused:
            await loop.sock_recv(client, 1 << 20)
    assert not is_watched(connection)
    client.close()


class Clock:
    """A loop, as far as `Pace` needs one, whose time is told."""

    def __init__(self) -> None:
        self.now = 0.0

    def time(self) -> float:
        return self.now

    def call_later(self, *_: object) -> Clock:
        return self

    def cancel(self) -> None: ...


class Full:
    """A transport with so many bytes left."""

    def __init__(self, untaken: int) -> None:
        self.untaken = untaken
        self.aborted = False
        self.socket = socket.socket()

    def get_write_buffer_size(self) -> int:
        return self.untaken

    def get_extra_info(self, _: str) -> socket.socket:
        return self.socket

    def abort(self) -> None:
        self.aborted = True
        self.socket.close()


def paced(transport: Full, *, bytes_per_s: int, in_pieces: bool) -> float:
    """Take an answer at a rate, and return the time at which that was too slow."""
    clock = Clock()
    pace = Pace(clock, 60)  # type: ignore[arg-type]
    pace.behind(transport)  # type: ignore[arg-type]
    while not transport.aborted and transport.untaken > 0:
        before = transport.untaken
        clock.now += 1
        transport.untaken -= bytes_per_s
        if in_pieces:
            pace.caught_up(transport)  # type: ignore[arg-type]
            if transport.socket.fileno() < 0:
                break
            pace.behind(transport)  # type: ignore[arg-type]
        elif clock.now % 60 == 0:
            pace.look(transport, before + 1)  # type: ignore[arg-type]
    return clock.now


@pytest.mark.parametrize("in_pieces", [False, True])
def test_a_client_that_takes_a_byte_now_and_then_is_disconnected(*, in_pieces: bool) -> None:
    slow = Full(12 << 20)
    assert paced(slow, bytes_per_s=LEAST_BYTES_PER_S // 2, in_pieces=in_pieces) == 60
    assert slow.aborted
    steady = Full(2 << 20)
    paced(steady, bytes_per_s=LEAST_BYTES_PER_S + 1, in_pieces=in_pieces)
    assert not steady.aborted
    steady.abort()


async def test_of_clients_that_do_not_take_their_answers_the_first_makes_way(
    serve: Serve,
) -> None:
    server = await serve(stall_timeout_s=3600, buffer_limit=5 * len(LONG), files_limit=0)
    first, _ = await slow_reader(server)
    others = []
    for _ in range(3):
        others.append(await ask_and_read_nothing(server))
        assert held_bytes(server) <= 5 * len(LONG)
    loop = asyncio.get_running_loop()
    taken = 0
    async with asyncio.timeout(20):
        with contextlib.suppress(ConnectionError):
            while chunk := await loop.sock_recv(first, 1 << 20):
                taken += len(chunk)
    assert taken < len(LONG)
    answer = await server.post(BODY)
    assert len(answer.json["data"]) == len(LONG)
    for client in [first, *others]:
        client.close()
    async with asyncio.timeout(20):
        while held_bytes(server):
            await asyncio.sleep(0.01)


async def test_a_long_answer_has_one_copy(serve: Serve) -> None:
    server = await serve(stall_timeout_s=3600)
    client, connection = await slow_reader(server)
    transport = connection.transport
    assert transport is not None
    assert transport.get_write_buffer_size() < 128 << 10
    assert held_bytes(server) == pytest.approx(len(LONG), abs=1000)
    client.close()


@pytest.mark.parametrize("tenant_holds", ["bodies", "runs that wait"])
async def test_bodies_that_are_held_back_are_refused_beyond_the_budget(
    serve: Serve, tenant_holds: str
) -> None:
    limits = {"code_limit": "64k", "stdin_limit": 0, "buffer_limit": 1, "files_limit": 0}
    limits["collect_limit"] = 0
    server = await serve(**limits)
    server.service.gate = asyncio.Event()
    text = json.dumps({"language": "python", "code": "x" * (60 << 10)}).encode()
    budget = server.context.bodies
    held_back = text if tenant_holds == "runs that wait" else text[:-1]
    clients = []
    for _ in range(20):
        reader, writer = await server.connect()
        writer.write(HEAD + b"Content-Length: %d\r\n\r\n" % len(text) + held_back)
        await server.get("/ping")
        assert budget.held_bytes <= budget.limit_bytes * 3 // 4 + 1
        clients.append(reader)
    first_answer, *_ = await asyncio.wait(
        [asyncio.ensure_future(read_answer(reader)) for reader in clients],
        return_when=asyncio.FIRST_COMPLETED,
    )
    answer = first_answer.pop().result()
    assert (answer.status, answer.json["code"]) == (503, "too_many_bytes")
    assert answer.headers["Retry-After"] == "1"
    small = asyncio.ensure_future(server.raw(WHOLE))
    await server.get("/ping")
    server.service.gate.set()
    assert (await small).status == 200


async def test_the_longest_idle_connection_makes_way_for_a_new_one(serve: Serve) -> None:
    server = await serve(max_connections=3, request_timeout_s=3600)
    idle, _ = await server.connect()
    used, writer = await server.connect()
    for _ in range(2):  # the session keeps its connection
        assert (await server.get("/ping")).status == 200
    writer.write(WHOLE)
    assert (await read_answer(used)).status == 200
    newest, writer = await server.connect()
    writer.write(WHOLE)
    assert (await read_answer(newest)).status == 200
    assert await until_closed(idle) == b""
    assert len(connections_of(server)) == 3


class TestTooManyConnections:
    @pytest.fixture(autouse=True)
    async def _nothing_is_an_error(self) -> None:
        """Expect the warning."""

    async def test_one_more_than_can_be_is_told_so(
        self, serve: Serve, caplog: pytest.LogCaptureFixture
    ) -> None:
        server = await serve(max_connections=2)
        server.service.gate = asyncio.Event()
        busy = []
        for _ in range(2):
            reader, writer = await server.connect()
            writer.write(WHOLE)
            busy.append(reader)
        async with asyncio.timeout(20):
            while len(server.service.requests) < 2:
                await asyncio.sleep(0.01)
        for _ in range(3):
            reader, writer = await server.connect()
            writer.write(WHOLE)
            answer = await read_answer(reader)
            assert (answer.status, answer.json["code"]) == (503, "too_many_connections")
            assert (answer.headers["Connection"], answer.headers["Retry-After"]) == ("close", "1")
            assert await until_closed(reader) == b""
        assert len(server.service.requests) == 2
        assert [one.levelname for one in caplog.records].count("WARNING") == 1
        server.service.gate.set()
        for reader in busy:
            assert (await read_answer(reader)).status == 200
        assert (await server.get("/ping")).status == 200
