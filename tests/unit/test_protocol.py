"""The frame codec: whatever the cuts, the same frames; whatever the garbage, one error."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool.inside.protocol import (
    HEADER,
    JOB_HEADER_SIZE,
    Decoder,
    Ending,
    Exit,
    FrameError,
    JobHeader,
    Kind,
    decode_exit,
    decode_job,
    encode,
    encode_exit,
    encode_job,
)

MAX_PAYLOAD = 64

Frames = list[tuple[Kind, bytes]]

frames = st.lists(st.tuples(st.sampled_from(Kind), st.binary(max_size=MAX_PAYLOAD)), max_size=8)
u32 = st.integers(0, 2**32 - 1)
u64 = st.integers(0, 2**64 - 1)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[start:end] for start, end in pairwise(ends)]


@given(frames, st.lists(st.integers(0, 1000), max_size=20))
def test_frames_cut_anywhere_decode_to_the_same_frames(sent: Frames, places: list[int]) -> None:
    decoder = Decoder(MAX_PAYLOAD)
    received: Frames = []
    for piece in cut(b"".join(encode(kind, payload) for kind, payload in sent), places):
        received += decoder.feed(piece)
    assert received == sent
    assert decoder.pending == 0


@given(frames)
def test_a_frame_that_is_cut_off_stays_pending(sent: Frames) -> None:
    whole = b"".join(encode(kind, payload) for kind, payload in [*sent, (Kind.EXIT, b"abc")])
    decoder = Decoder(MAX_PAYLOAD)
    assert list(decoder.feed(whole[:-1])) == sent
    assert decoder.pending == HEADER.size + 2


@given(st.lists(st.binary(max_size=200), max_size=20))
def test_any_bytes_are_frames_or_an_error_and_never_pile_up(pieces: list[bytes]) -> None:
    decoder = Decoder(MAX_PAYLOAD)
    for piece in pieces:
        try:
            for kind, payload in decoder.feed(piece):
                assert kind in Kind
                assert len(payload) <= MAX_PAYLOAD
        except FrameError:
            return
        assert decoder.pending < HEADER.size + MAX_PAYLOAD


@given(st.sampled_from(Kind), st.integers(MAX_PAYLOAD + 1, 2**32 - 1))
def test_a_frame_that_claims_too_much_is_refused_before_it_is_buffered(
    kind: int, size: int
) -> None:
    decoder = Decoder(MAX_PAYLOAD)
    with pytest.raises(FrameError, match="is over 64"):
        list(decoder.feed(HEADER.pack(kind, size)))


@given(st.integers(0, 255).filter(lambda kind: kind not in set(Kind)), u32)
def test_an_unknown_kind_is_refused(kind: int, size: int) -> None:
    with pytest.raises(FrameError, match=f"unknown frame kind {kind}"):
        list(Decoder(MAX_PAYLOAD).feed(HEADER.pack(kind, size)))


@given(
    st.tuples(u32, u32, u32),
    st.binary(),
    st.binary(),
    st.binary(max_size=255),
    st.binary(),
    st.tuples(u32, u32, u64, u64),
)
def test_a_job_survives_the_way(
    numbers: tuple[int, int, int],
    code: bytes,
    stdin: bytes,
    layer: bytes,
    strings: bytes,
    more: tuple[int, int, int, int],
) -> None:
    last = bool(code)
    args, *limits = more
    header = JobHeader(
        *numbers, len(code), len(stdin), last, len(layer), args, len(strings), *limits
    )
    ((kind, payload),) = Decoder(1 << 20).feed(encode_job(header, layer, code, stdin, strings))
    assert kind is Kind.JOB
    assert decode_job(payload) == header
    assert payload[JOB_HEADER_SIZE:] == layer + code + stdin + strings


@given(st.binary(max_size=100))
def test_a_job_of_any_bytes_adds_up_or_is_an_error(payload: bytes) -> None:
    try:
        header = decode_job(payload)
    except FrameError:
        return
    sizes = header.layer_size + header.code_size + header.stdin_size + header.strings_size
    assert JOB_HEADER_SIZE + sizes == len(payload)


@given(
    st.builds(
        Exit, u32, st.sampled_from(Ending), st.integers(-1, 255), st.booleans(), u64, u64, u64
    )
)
def test_an_exit_survives_the_way(ending: Exit) -> None:
    ((kind, payload),) = Decoder(1 << 20).feed(encode_exit(ending))
    assert kind is Kind.EXIT
    assert decode_exit(payload) == ending


@given(st.binary(max_size=64))
def test_an_exit_of_any_bytes_is_one_or_an_error(payload: bytes) -> None:
    try:
        ending = decode_exit(payload)
    except FrameError:
        return
    assert ending.ending in Ending
