"""Both streams together have the characters that each alone has, however their bytes came."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from pgexec.http.answers import render_result
from pgexec.http.delivery import CHUNK_BYTES
from pgexec.http.sse import Unsent
from pool.inside.protocol import Ending, Exit, Kind
from pool.output import HeardOutput, Output, end_of_characters

if TYPE_CHECKING:
    from pool.job import Result

ENDED = Exit(1, Ending.EXITED, 0, truncated=False, duration_us=1, cpu_us=1, peak_memory_bytes=1)
CUT = ENDED._replace(ending=Ending.OUTPUT_LIMIT, status=-9, truncated=True)

Pieces = list[tuple[Kind, bytes]]
kinds = st.sampled_from([Kind.STDOUT, Kind.STDERR])
scraps = st.sampled_from(["a", "é", "€", "😀", "\ud800"]).map(
    lambda text: text.encode("utf-8", "surrogatepass")
) | st.sampled_from([b"\xff", b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98", b"\x82", b"\xed\xa0", b"\xc0"])


@st.composite
def texts(draw: st.DrawFn) -> Pieces:
    """Return pieces of both streams, cut anywhere."""
    whole = b"".join(draw(st.lists(scraps, max_size=12)))
    cuts = draw(st.lists(st.integers(0, len(whole)), max_size=12))
    parts = [whole[start:end] for start, end in pairwise(sorted({0, len(whole), *cuts}))]
    return [(draw(kinds), part) for part in parts]


def collect(pieces: Pieces, ending: Exit) -> tuple[Result, Pieces]:
    """Return what became of pieces, and what was heard of them."""
    heard: Pieces = []
    output = HeardOutput(lambda kind, piece: heard.append((kind, piece)))
    for kind, piece in pieces:
        output.add(kind, piece)
    return output.result(ending), heard


def events(heard: Pieces) -> list[tuple[str, str]]:
    """Return the events of a stream, by their names, with their texts."""
    unsent = Unsent()
    for kind, piece in heard:
        unsent.output.add(kind, piece)
    unsent.finish((b"result", (b"null",)))
    sent = b"".join(iter(unsent.take, b"")).decode()
    *lines, _, _ = [line.partition(": ")[2] for line in sent.splitlines() if line]
    return [(name, json.loads(data)["text"]) for name, data in zip(lines[::2], lines[1::2])]  # noqa: B905


@given(texts(), st.sampled_from([ENDED, CUT]))
def test_data_is_the_texts_of_the_events_in_their_order(pieces: Pieces, ending: Exit) -> None:
    result, heard = collect(pieces, ending)
    answer = json.loads(render_result(result, None))
    told = events(heard)
    assert answer["data"] == "".join(text for _, text in told)
    for stream in ("stdout", "stderr"):
        assert answer[stream] == "".join(text for name, text in told if name == stream)


@given(texts())
def test_each_stream_alone_is_what_was_written(pieces: Pieces) -> None:
    result, _ = collect(pieces, ENDED)
    for kind, stream in ((Kind.STDOUT, result.stdout), (Kind.STDERR, result.stderr)):
        assert stream == b"".join(piece for its, piece in pieces if its is kind)
    assert sorted(result.data) == sorted(result.stdout + result.stderr)


@given(st.lists(st.tuples(kinds, st.text("aé€😀", min_size=1)), max_size=8), st.integers(0, 40))
def test_the_output_limit_cuts_between_characters(written: list[tuple[Kind, str]], at: int) -> None:
    room, pieces = at, []
    for kind, text in written:  # as the runner does it
        piece = text.encode()[:room]
        room -= len(piece)
        pieces += [(kind, piece[:1]), (kind, piece[1:])]
    result, _ = collect(pieces, CUT)
    whole = sum(len(text.encode()) for _, text in written)
    assert min(at, whole) - 3 <= len(result.data) <= at or whole <= at
    for stream in (result.data, result.stdout, result.stderr):
        stream.decode()


def test_a_character_whose_bytes_come_apart_stays_whole_between_others() -> None:
    result, heard = collect(
        [
            (Kind.STDOUT, b"\xe2\x82"),
            (Kind.STDERR, b"\xc3"),
            (Kind.STDOUT, b"\xac"),
            (Kind.STDERR, b"\xa9"),
        ],
        ENDED,
    )
    assert result.data.decode() == "€é"
    assert heard == [(Kind.STDOUT, "€".encode()), (Kind.STDERR, "é".encode())]


def test_a_flood_that_is_no_text_is_cut_where_it_was() -> None:
    output = Output()
    output.add(Kind.STDOUT, b"\xff" * CHUNK_BYTES)
    assert len(output.result(CUT).stdout) == CHUNK_BYTES


def test_only_what_may_become_a_character_waits_for_more() -> None:
    assert [
        end_of_characters(data)
        for data in (
            b"",
            b"a",
            "€".encode(),
            b"a\xe2",
            b"a\xe2\x82",
            b"\xf0\x9f\x98",
            b"\xff",
            b"\x82\x82\x82",
        )
    ] == [0, 1, 3, 1, 1, 0, 1, 3]
