"""Long answers: the same bytes as short ones have, made in pieces, in turns with all others."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import to_json

from pgexec.http import delivery, sse, texts
from pgexec.http.answers import render_long, render_result, size_bytes
from pgexec.http.delivery import CHUNK_BYTES, cut, held_bytes
from pgexec.http.server import LARGE_READ_BYTES, Connection
from pgexec.http.texts import PIECE_BYTES
from pool.inside.protocol import Ending, Exit, Kind
from pool.output import Output
from pool.turns import RENDERED_AT_ONCE, Rounds, rounds, turn
from tests.sse import ASK
from tests.unit.http.rig import make_result, read_answer

if TYPE_CHECKING:
    from pool.job import Result
    from tests.unit.http.rig import Running, Serve

CODE = {"language": "python", "code": "1"}
ENDED = Exit(1, Ending.EXITED, 0, False, 1, 1, 1)  # noqa: FBT003
CONTROL = b"\x01" * (1 << 19)
KINDS = st.sampled_from([Kind.STDOUT, Kind.STDERR])
BYTES = st.one_of(
    st.binary(max_size=30), st.text('a\0"\u20ac\U0001f600', max_size=30).map(str.encode)
)


def written(*pieces: tuple[Kind, bytes]) -> Result:
    output = Output()
    for kind, piece in pieces:
        output.add(kind, piece)
    return output.result(ENDED)


@given(st.lists(st.tuples(KINDS, BYTES), max_size=12), st.integers(1, 20), st.integers(1, 4))
def test_a_long_answer_has_the_bytes_of_a_short_one(
    pieces: list[tuple[Kind, bytes]], size: int, parts: int
) -> None:
    result = written(*pieces)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(texts, "PIECE_BYTES", size)
        patch.setattr(texts, "_MOST_PARTS", parts)
        document = asyncio.run(render_long(result, 'a "","stderr":"" b'))
        whole = b"".join(cut(document))
    assert whole == render_result(result, 'a "","stderr":"" b')
    assert sum(map(len, document)) == len(whole)


def test_what_grows_in_json_is_kept_as_it_was_written() -> None:
    both = written((Kind.STDOUT, CONTROL), (Kind.STDERR, CONTROL))
    one = written((Kind.STDOUT, CONTROL))
    plain = written((Kind.STDOUT, b"one line\n" * 100_000))
    for result in (both, one, plain):
        document = asyncio.run(render_long(result, None))
        assert held_bytes(document) < size_bytes(result) * 1.25 + 1000
    assert size_bytes(one) == len(CONTROL)
    assert size_bytes(both) == 4 * len(CONTROL)


class Steps:
    """Counts the bytes that become JSON between two turns."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.sizes = [0]
        patch.setattr(texts, "to_json", self.to_json)
        patch.setattr(sse, "to_json", self.to_json)
        for module in (texts, delivery, sse):
            patch.setattr(module, "turn", self.turn)

    async def turn(self) -> None:
        self.sizes.append(0)
        await turn()

    def to_json(self, value: Any) -> bytes:
        made = to_json(value)
        self.sizes[-1] += len(made)
        return made


@pytest.mark.parametrize("headers", [{}, ASK])
@pytest.mark.parametrize("garbage", [b"", b"\xff\x01"])
async def test_no_step_of_the_loop_makes_more_than_a_piece_of_a_long_answer(
    server: Running, monkeypatch: pytest.MonkeyPatch, headers: dict[str, str], garbage: bytes
) -> None:
    pieces = [(Kind.STDOUT, CONTROL + garbage), (Kind.STDERR, CONTROL)]
    server.service.result = written(*pieces, *((kind, b"\x01\xff") for kind, _ in pieces * 2000))

    async def script(progress: Any) -> None:
        for kind, piece in pieces:
            progress.output(kind, piece)

    server.service.script = script if headers else None
    steps = Steps(monkeypatch)
    answer = await server.post(CODE, **headers)
    assert answer.status == 200
    assert len(answer.body) > 12 * len(CONTROL)
    assert sum(steps.sizes) > 12 * len(CONTROL)
    assert max(steps.sizes) <= CHUNK_BYTES + 3 * 6 * sse.TEXT_BYTES


async def test_a_short_run_waits_for_no_turn(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail() -> None:
        raise AssertionError("a turn")

    for module in (texts, delivery, sse):
        monkeypatch.setattr(module, "turn", fail)
    assert (await server.post(CODE)).json["data"] == "1\n"
    assert b"event: result" in (await server.post(CODE, **ASK)).body


async def test_one_of_many_that_send_much_is_read_in_each_round(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it is refused, and its end is read only for the client to see the answer."""
    server = await serve(stdin_limit=1000)
    rounds, long_ones = 0, Counter[int]()
    received = Connection.data_received

    def counted(connection: Connection, data: bytes) -> None:
        first = not connection._request_count
        if len(data) > LARGE_READ_BYTES and not first:
            long_ones[rounds] += 1
        received(connection, data)

    async def count() -> None:
        nonlocal rounds
        while True:
            rounds += 1
            await asyncio.sleep(0)

    monkeypatch.setattr(Connection, "data_received", counted)
    counting = asyncio.create_task(count())
    answers = await asyncio.gather(
        *(server.post({**CODE, "stdin": size * "x"}) for size in (1 << 19, 1 << 21) * 5)
    )
    counting.cancel()
    assert {answer.status for answer in answers} == {413}
    assert sum(long_ones.values()) > 20
    assert set(long_ones.values()) == {1}


async def test_there_is_one_turn_in_a_round_in_the_order_of_asking() -> None:
    rounds, told = Rounds(), list[str]()

    async def work(name: str) -> None:
        for _ in range(3):
            await rounds.place()
            told.append(name)

    tasks = [asyncio.create_task(work(name)) for name in "abc"]
    while not all(task.done() for task in tasks):
        before = len(told)
        await asyncio.sleep(0)
        assert len(told) <= before + 1
    assert "".join(told) == "abcabcabc"


async def test_who_gives_up_leaves_the_turn_to_the_next_one() -> None:
    rounds = Rounds()
    first, second, third = (rounds.place() for _ in range(3))
    first.cancel()
    second.cancel()
    async with asyncio.timeout(20):
        await third
        await rounds.place()  # and none is asked for in vain


async def test_who_hangs_up_while_its_answer_is_made_leaves_nothing(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await serve()
    server.service.result = written((Kind.STDOUT, CONTROL), (Kind.STDERR, CONTROL))
    making, rendering = asyncio.Event(), rounds().rendering

    async def never() -> None:
        making.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(texts, "turn", never)
    _, writer = await server.connect()
    sent = json.dumps(CODE).encode()
    head = b"POST /run HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    writer.write(head + b"Content-Length: %d\r\n\r\n" % len(sent) + sent)
    async with asyncio.timeout(20):
        await making.wait()
        assert server.context.answers.held_bytes == size_bytes(server.service.result)
        writer.close()
        while server.context.answers.held_bytes:
            await asyncio.sleep(0)
    assert rendering._value == RENDERED_AT_ONCE


async def test_a_connection_goes_on_after_a_long_answer(server: Running) -> None:
    reader, writer = await server.connect()
    sent = json.dumps(CODE).encode()
    head = b"POST /run HTTP/1.%d\r\nHost: x\r\nContent-Type: application/json\r\n"
    for minor, control in ((1, CONTROL), (1, b"\x01"), (0, CONTROL)):
        server.service.result = make_result(data=control, stdout=control)
        writer.write(head % minor + b"Content-Length: %d\r\n\r\n" % len(sent) + sent)
        async with asyncio.timeout(20):
            told = await reader.readuntil(b"\r\n\r\n")
            size = int(told.lower().partition(b"content-length: ")[2].split()[0])
            assert size > 12 * len(control)
            answer = json.loads(await reader.readexactly(size))
        assert answer["data"] == answer["stdout"] == control.decode()
    assert await reader.read() == b""  # HTTP/1.0 ends its connection


def test_a_piece_is_small() -> None:
    assert 6 * PIECE_BYTES < 2 * CHUNK_BYTES


async def test_one_of_many_scrapes_is_made_in_each_round(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scrape takes some milliseconds, and whoever may scrape may ask on many connections."""
    server = await serve()
    rounds, made = 0, list[int]()
    render = server.metrics.render

    def counted() -> bytes:
        made.append(rounds)
        return render()

    async def count() -> None:
        nonlocal rounds
        while True:
            rounds += 1
            await asyncio.sleep(0)

    monkeypatch.setattr(server.metrics, "render", counted)
    connections = [await server.connect() for _ in range(20)]
    counting = asyncio.create_task(count())
    for _, writer in connections:
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    answers = await asyncio.gather(*(read_answer(reader) for reader, _ in connections))
    counting.cancel()
    assert {answer.status for answer in answers} == {200}
    assert len(set(made)) == len(made) == 20
