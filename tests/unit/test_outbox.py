"""The outbox of PID 1: output leaves in the order in which it came, and ahead of the frame."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pool.inside import outbox
from pool.inside.outbox import AREA_BYTES, Outbox
from pool.inside.protocol import Decoder, Kind, encode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[tuple[Kind, bytes]]]]:
    """Put a pipe in the server's place; return the frames that have come out of it."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    monkeypatch.setattr(outbox, "_HOST_OUT", writer)
    decoder = Decoder(1 << 20)
    yield lambda: list(decoder.feed(os.read(reader, 1 << 16)))
    os.close(reader)
    os.close(writer)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    yield reader, writer
    os.close(reader)
    os.close(writer)


def put(box: Outbox, pipe: tuple[int, int], kind: Kind, data: bytes) -> int:
    os.write(pipe[1], data)
    return box.read(kind, pipe[0], 1 << 16)


def test_pieces_of_one_stream_travel_as_one_and_the_order_of_the_two_is_kept(
    sent: Callable[[], list[tuple[Kind, bytes]]], pipe: tuple[int, int]
) -> None:
    box = Outbox(memoryview(bytearray(AREA_BYTES)))
    for kind, data in (
        (Kind.STDOUT, b"a"),
        (Kind.STDOUT, b"b"),
        (Kind.STDERR, b"c"),
        (Kind.STDOUT, b"d"),
    ):
        assert put(box, pipe, kind, data) == 1
    assert box.used == 4
    box.send(encode(Kind.CLEAN, b"x"))
    assert sent() == [
        (Kind.STDOUT, b"ab"),
        (Kind.STDERR, b"c"),
        (Kind.STDOUT, b"d"),
        (Kind.CLEAN, b"x"),
    ]
    assert box.used == 0


def test_a_byte_that_was_taken_back_is_not_sent(
    sent: Callable[[], list[tuple[Kind, bytes]]], pipe: tuple[int, int]
) -> None:
    box = Outbox(memoryview(bytearray(AREA_BYTES)))
    put(box, pipe, Kind.STDOUT, b"abc")
    box.take_back()
    box.send()
    assert sent() == [(Kind.STDOUT, b"ab")]


def test_an_empty_pipe_and_a_closed_one_are_told_apart(pipe: tuple[int, int]) -> None:
    box = Outbox(memoryview(bytearray(AREA_BYTES)))
    assert box.read(Kind.STDOUT, pipe[0], 10) == -1
    nothing = os.open(os.devnull, os.O_RDONLY)
    assert box.read(Kind.STDOUT, nothing, 10) == 0
    os.close(nothing)


def test_a_full_outbox_is_sent_before_more_is_read(
    sent: Callable[[], list[tuple[Kind, bytes]]], pipe: tuple[int, int]
) -> None:
    """Else the rest of the area would be read into, however little that is."""
    box = Outbox(memoryview(bytearray(outbox.READ_BYTES + 10)))
    for data in (b"x" * 10, b"y", b"z"):
        put(box, pipe, Kind.STDOUT, data)
    assert sent() == [(Kind.STDOUT, b"x" * 10 + b"y")]
    assert box.used == 1
