"""A runner that lies, stalls, repeats itself or dies, cut anywhere: one result or one error."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import currently_in_test_context, event, given
from hypothesis import strategies as st

from pgexec.advise.clock import ClockLoop
from pool.container import GRACE_S, Container
from pool.errors import (
    ContainerLost,
    EngineUnavailable,
    LayerMissing,
    PoolError,
    RunnerProtocolError,
)
from pool.inside.protocol import HEADER, Ending, Exit, Kind, encode, encode_exit
from pool.job import Job, Result

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping, Sequence

    from pool.engine.api import CreateDocument

START_S = 10.0
RESET_S = 3.0
JOB = Job(b"print(1)", timeout_s=2.0, output_limit_bytes=20)
READY = encode(Kind.READY, b'{"python": "3.13.0"}')


def exit_of(run: int) -> bytes:
    figures: dict[str, Any] = {"duration_us": 1500, "cpu_us": 1000, "peak_memory_bytes": 1}
    return encode_exit(Exit(run, Ending.EXITED, 0, truncated=False, **figures))


@dataclass
class Stream:
    """Says what it was told to: some before the job and some after it, and then it ends or not."""

    before: Sequence[bytes]
    after: Sequence[bytes]
    end: str
    closed: bool = False
    jobs: int = 0
    _pieces: asyncio.Queue[bytes] = field(default_factory=asyncio.Queue)

    def begin(self) -> None:
        self._say(self.before)

    async def read(self) -> bytes:
        while True:
            piece = await self._pieces.get()
            if piece:
                return piece
            if self.end == "error":
                raise EngineUnavailable("the connection broke")
            if self.end == "end":
                return b""

    async def write(self, data: bytes | memoryview) -> None:
        self.jobs += 1
        if self.end == "write error":
            raise ContainerLost("the other end is gone")
        self._say(self.after)
        self._pieces.put_nowait(b"")

    async def close(self) -> None:
        self.closed = True

    def _say(self, pieces: Sequence[bytes]) -> None:
        for piece in filter(None, pieces):
            self._pieces.put_nowait(piece)


@dataclass
class Engine:
    """Has one container, and nothing else that the pool asks of an engine."""

    stream: Stream
    removed: bool = False

    async def start(self, document: CreateDocument) -> tuple[str, Stream]:
        self.stream.begin()
        return "c1", self.stream

    async def remove(self, container_id: str) -> None:
        self.removed = True

    async def ran_out_of_memory(self, container_id: str, since: float) -> bool:
        return True


def in_virtual_time(work: Coroutine[object, object, None]) -> None:
    """Run on a loop whose time flies, where what waits for nothing is a deadlock."""
    complaints: list[Mapping[str, object]] = []
    with asyncio.Runner(loop_factory=ClockLoop) as runner:
        runner.get_loop().set_exception_handler(lambda _, context: complaints.append(context))
        runner.run(work)
    assert complaints == []


def count(what: str) -> None:
    """Have Hypothesis count how often that happens; tests/fuzz comes here without it."""
    if currently_in_test_context():
        event(what)


async def use(stream: Stream) -> None:
    """Start, run, reset and destroy; hold the container to what it promises."""
    engine = Engine(stream)
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        container = await Container.start(engine, {"Image": "fake"}, timeout_s=START_S)
    except PoolError as error:
        count(f"start: {type(error).__name__}")
        assert engine.removed
        assert stream.closed
        assert loop.time() - began <= START_S
        return
    assert isinstance(container.runner, dict)
    began = loop.time()
    try:
        result = await container.run(JOB)
    except PoolError as error:
        count(f"run: {type(error).__name__}")
    else:
        count("run: a result")
        check(result)
        assert stream.jobs == 1
    assert loop.time() - began <= JOB.timeout_s + GRACE_S
    if stream.jobs:
        began = loop.time()
        report = await container.reset(timeout_s=RESET_S)
        count(f"reset: {report.clean}")
        assert loop.time() - began <= RESET_S
    await container.destroy()
    assert engine.removed
    assert stream.closed
    assert container.lost


def check(result: Result) -> None:
    assert len(result.data) <= JOB.output_limit_bytes
    assert sorted(result.data) == sorted(result.stdout + result.stderr)
    assert (result.exit_code is None) != (result.signal is None)
    assert result.duration_s <= JOB.timeout_s + GRACE_S
    assert result.cpu_s < 1e6
    assert result.peak_memory_bytes <= 1 << 50
    json.dumps([result.exit_code, result.signal, result.duration_s, result.peak_memory_bytes])


u32 = st.integers(0, 2**32 - 1)
u64 = st.integers(0, 2**64 - 1)
exits = st.builds(
    Exit,
    st.just(1) | u32,
    st.sampled_from(Ending),
    st.sampled_from([0, 1, -9]) | st.integers(-(2**31), 2**31 - 1),
    st.booleans(),
    u64,
    u64,
    u64,
)
frames = st.one_of(
    st.builds(encode, st.sampled_from(Kind), st.binary(max_size=30)),
    st.builds(encode, st.sampled_from([Kind.STDOUT, Kind.STDERR]), st.binary(max_size=15)),
    st.builds(encode_exit, exits),
    st.sampled_from([READY, exit_of(1), encode(Kind.CLEAN, b"1 ms"), encode(Kind.DIRTY, b"no")]),
    st.sampled_from([b"[]", b"null", b"1", b'"x"', b"{", b"[" * 99_999, b"9" * 9999]).map(
        lambda text: encode(Kind.READY, text)
    ),
    st.just(encode(Kind.STDOUT, b"1\n") + exit_of(1) + encode(Kind.CLEAN, b"1 ms")),
    st.builds(HEADER.pack, st.integers(0, 255), u32),
    st.binary(max_size=30),
)


@st.composite
def speeches(draw: st.DrawFn) -> list[bytes]:
    """Return frames and what is none, some twice, cut off perhaps, and in any pieces."""
    told = draw(st.lists(frames, max_size=6))
    told += told[: draw(st.integers(0, 1))]
    whole = b"".join(told)
    whole = whole[: len(whole) - draw(st.sampled_from([0, 0, 0, 1, 7]))]
    places = draw(st.lists(st.integers(0, len(whole)), max_size=8))
    return [whole[start:end] for start, end in pairwise(sorted({0, len(whole), *places}))]


ends = st.sampled_from(["end", "stall", "error", "write error"])


@given(st.just([READY]) | speeches(), speeches(), ends)
def test_any_bytes_end_in_one_result_or_one_error_and_no_container(
    before: list[bytes], after: list[bytes], end: str
) -> None:
    in_virtual_time(use(Stream(before, after, end)))


@given(st.lists(st.binary(max_size=40), max_size=8), ends)
def test_so_do_bytes_that_are_hardly_ever_frames(pieces: list[bytes], end: str) -> None:
    in_virtual_time(use(Stream(pieces, pieces, end)))


@pytest.mark.clock
@pytest.mark.parametrize("size", [1, 4, 1000])
@pytest.mark.parametrize(
    "said",
    [
        encode(Kind.CLEAN, b"1 ms") + exit_of(1),
        encode(Kind.STDOUT, b"before") + encode(Kind.DIRTY, b"no") + exit_of(1),
    ],
    ids=["clean", "dirty"],
)
async def test_a_report_before_the_end_of_the_run_is_an_offence(said: bytes, size: int) -> None:
    container, _ = await started(said, size)
    with pytest.raises(PoolError, match="that no run asked for"):
        await container.run(JOB)
    await container.destroy()


@pytest.mark.clock
@pytest.mark.parametrize("kind", [Kind.STDOUT, Kind.STDERR])
async def test_output_after_the_end_of_the_run_is_not_part_of_it(kind: Kind) -> None:
    said = encode(kind, b"before") + exit_of(1) + encode(kind, b"after") + encode(Kind.CLEAN)
    container, _ = await started(said, 1000)
    assert (await container.run(JOB)).data == b"before"
    assert not (await container.reset(timeout_s=RESET_S)).clean
    assert container.lost
    await container.destroy()


@pytest.mark.clock
@pytest.mark.parametrize(
    ("layer", "error", "begun"),
    [("", RunnerProtocolError, True), ("a-layer", LayerMissing, False)],
)
async def test_a_layer_that_nobody_asked_for_cannot_be_missing(
    layer: str, error: type[PoolError], *, begun: bool
) -> None:
    ending = Exit(
        1, Ending.NO_LAYER, 0, truncated=False, duration_us=1, cpu_us=1, peak_memory_bytes=1
    )
    container, _ = await started(encode_exit(ending), 1000)
    with pytest.raises(error) as raised:
        await container.run(replace(JOB, layer=layer))
    assert raised.value.begun is begun
    await container.destroy()


@pytest.mark.clock
@pytest.mark.parametrize("lie", [10**15, 2**63, 2**64 - 1])
async def test_no_figure_of_a_run_is_beyond_what_its_container_has(lie: int) -> None:
    figures: dict[str, Any] = {"duration_us": lie, "cpu_us": lie, "peak_memory_bytes": lie}
    said = encode_exit(Exit(1, Ending.EXITED, 0, truncated=False, **figures))
    engine = Engine(Stream([READY], [said], "stall"))
    document = {"HostConfig": {"NanoCpus": 500_000_000, "Memory": 64 << 20}}
    container = await Container.start(engine, document, timeout_s=START_S)
    result = await container.run(JOB)
    assert result.duration_s <= JOB.timeout_s + GRACE_S
    assert result.cpu_s <= (result.duration_s + 0.1) / 2
    assert result.peak_memory_bytes == 64 << 20
    await container.destroy()


@pytest.mark.clock
@pytest.mark.parametrize("text", [b"[]", b"null", b"1", b'"x"'])
async def test_a_ready_that_is_no_object_is_an_offence(text: bytes) -> None:
    engine = Engine(Stream([encode(Kind.READY, text)], [], "stall"))
    with pytest.raises(PoolError, match="READY"):
        await Container.start(engine, {"Image": "fake"}, timeout_s=START_S)
    assert engine.removed


async def started(said: bytes, size: int) -> tuple[Container, Engine]:
    pieces = [said[start : start + size] for start in range(0, len(said), size)]
    engine = Engine(Stream([READY], pieces, "stall"))
    return await Container.start(engine, {"Image": "fake"}, timeout_s=START_S), engine
