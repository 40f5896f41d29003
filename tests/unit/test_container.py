"""One container: what it makes of what its runner says, and of its end."""

from __future__ import annotations

import asyncio
from collections import deque

import pytest

from pool.container import PIECE_BYTES, TURN_BYTES, Container, State
from pool.errors import (
    ContainerLost,
    EngineError,
    NoRoom,
    NotWritten,
    PoolError,
    RunnerProtocolError,
)
from pool.inside.protocol import FILE, JobHeader, Kind, encode
from pool.job import InputFile, Job, Status
from tests.unit.fake_engine import DOCUMENT, FakeContainer, FakeEngine
from tests.unit.rig import quiet

pytestmark = pytest.mark.clock


async def started(engine: FakeEngine | None = None) -> tuple[Container, FakeContainer, FakeEngine]:
    engine = engine or FakeEngine()
    container = await Container.start(engine, DOCUMENT, timeout_s=10)
    return container, engine.containers[container.id], engine


async def test_it_is_started_once_its_runner_is_ready() -> None:
    container, fake, _ = await started()
    assert (container.id, container.state) == (fake.id, State.STARTING)
    assert container.runner == {"python": "3.13.0"}
    await container.destroy()


async def test_a_runner_that_is_never_ready_is_removed_after_the_timeout() -> None:
    engine = FakeEngine(boots=deque(["silent"]))
    with pytest.raises(ContainerLost, match="not ready within 10 s"):
        await started(engine)
    assert engine.containers == {}


@pytest.mark.parametrize(
    ("boot", "error"),
    [("dies", ContainerLost), ("garbage", RunnerProtocolError), ("not json", RunnerProtocolError)],
)
async def test_a_runner_that_starts_badly_leaves_no_container(
    boot: str, error: type[PoolError]
) -> None:
    engine = FakeEngine(boots=deque([boot]))
    with pytest.raises(error):
        await started(engine)
    assert engine.containers == {}


async def test_a_start_that_is_cancelled_leaves_no_container() -> None:
    engine = FakeEngine(boots=deque(["silent"]), remove_s=1)
    starting = asyncio.create_task(started(engine))
    await quiet()
    assert len(engine.containers) == 1
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert engine.containers == {}


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
async def test_a_run_returns_both_streams_in_order_however_the_bytes_are_cut(size: int) -> None:
    container, _, _ = await started(FakeEngine(chunk_bytes=size))
    result = await container.run(Job(b"both"))
    assert (result.data, result.stdout, result.stderr) == (b"12hello\n", b"1hello\n", b"2")
    assert (result.status, result.exit_code, result.signal) == (Status.OK, 0, None)
    assert (result.duration_s, result.cpu_s) == (0.0015, 0.001)
    assert (await container.reset(timeout_s=1)).clean
    await container.destroy()


async def test_large_outputs_take_turns_in_the_rounds_of_the_loop() -> None:
    engine = FakeEngine(chunk_bytes=10_000)
    containers = [(await started(engine))[:2] for _ in range(3)]
    taken = [0]
    runs = []
    for container, fake in containers:
        heard = lambda _, piece: taken.append(taken.pop() + len(piece))  # noqa: E731
        runs.append(asyncio.create_task(container.run(Job(b"hang"), heard)))
        await quiet()
        fake.say(*(encode(Kind.STDOUT, b"x" * 9000) for _ in range(100)))
        fake.finish(b"the end")
    steps = []
    while not all(run.done() for run in runs):
        before = taken[0]
        await asyncio.sleep(0)
        steps.append(taken[0] - before)
    # The first round has what each of them may say without a turn.
    assert max(steps[2:], default=len(runs) * 900_000) <= TURN_BYTES + 20_000
    for run, (container, _) in zip(runs, containers, strict=True):
        assert (await run).stdout == b"x" * 900_000 + b"the end"
        await container.destroy()


@pytest.mark.parametrize("code", [b"both", b"hang"])
async def test_nothing_is_kept_of_what_a_run_wrote(code: bytes) -> None:
    """A container that was destroyed stays in memory until the collector comes."""
    container, _, _ = await started()
    heard: list[bytes] = []
    running = asyncio.create_task(container.run(Job(code), lambda _, data: heard.append(data)))
    await quiet()
    running.cancel()
    await asyncio.wait([running])
    assert bool(heard) == (code == b"both")
    assert not container._output._data
    await container.destroy()


async def test_who_listens_hears_each_piece_of_output_before_the_end() -> None:
    heard: list[tuple[Kind, bytes]] = []
    container, fake, _ = await started()
    run = asyncio.create_task(container.run(Job(b"hang"), lambda *piece: heard.append(piece)))
    await quiet()
    fake.say(encode(Kind.STDOUT, b"first"))
    await quiet()
    assert heard == [(Kind.STDOUT, b"first")]
    fake.say(encode(Kind.STDERR, b"second"))
    fake.finish(b"last")
    assert (await run).data == b"firstsecondlast"
    assert heard[1:] == [(Kind.STDERR, b"second"), (Kind.STDOUT, b"last")]
    await container.reset(timeout_s=1)
    await container.run(Job(b"ok"))
    assert len(heard) == 3
    await container.destroy()


@pytest.mark.parametrize(
    ("status", "exit_code", "signal"),
    [
        ("error", 1, None),
        ("killed", None, 11),
        ("timeout", None, 9),
        ("output_limit", None, 9),
        ("cpu_time", None, 9),
        ("memory_limit", None, 9),
    ],
)
async def test_the_status_says_how_the_snippet_ended(
    status: str, exit_code: int | None, signal: int | None
) -> None:
    container, _, _ = await started()
    result = await container.run(Job(status.encode()))
    assert (result.status, result.exit_code, result.signal) == (status, exit_code, signal)
    await container.destroy()


async def test_the_runner_receives_the_job_as_it_was_given() -> None:
    container, fake, _ = await started()
    job = Job(
        b"print(1)",
        b"input",
        timeout_s=1.5,
        output_limit_bytes=99,
        last=True,
        layer="l1",
        args=(b"-x", b""),
        env={b"A": b"b"},
        cpu_time_s=0.5,
    )
    await container.run(job)
    header = JobHeader(
        1, 1500, 99, 8, 5, last=True, layer_size=2, args=2, strings_size=8, cpu_ms=500
    )
    header = header._replace(collect_limit=16 << 20, collect_max=100)
    assert fake.jobs == [(header, b"print(1)", b"input")]
    assert fake.strings == b"-x\0\0A=b\0"
    await container.destroy()


async def test_files_follow_the_job_in_pieces_and_without_a_copy() -> None:
    container, fake, _ = await started()
    content = bytearray(b"x" * (PIECE_BYTES + 1))
    files = [InputFile("d/é", content), InputFile("b", b"")]
    written: list[bytes | memoryview] = []
    write = fake.write

    async def watched(data: bytes | memoryview) -> None:
        written.append(data)
        await write(data)

    fake.write = watched  # type: ignore[method-assign]
    await container.run(Job(b"ok", files=files))
    assert (
        fake.files == FILE.pack(4, len(content)) + "d/é".encode() + content + FILE.pack(1, 0) + b"b"
    )
    pieces = [one.obj for one in written if isinstance(one, memoryview)]
    assert [id(piece) for piece in pieces] == [id(content)] * 2
    await container.destroy()


async def test_files_that_are_asked_for_come_with_the_result() -> None:
    container, _, _ = await started()
    result = await container.run(Job(b"leave a file", collect=["*"]))
    assert [(file.name, file.content) for file in result.files] == [("a", b"xyz")]
    assert (result.stdout, result.files_omitted) == (b"hello\n", "")
    await container.reset(timeout_s=1)
    with pytest.raises(RunnerProtocolError, match="files that no run asked for"):
        await container.run(Job(b"leave a file"))
    await container.destroy()


async def test_files_without_room_are_an_error_of_their_own() -> None:
    container, _, _ = await started()
    with pytest.raises(NoRoom, match="do not fit"):
        await container.run(Job(b"no room", files=[InputFile("a", b"x")]))
    await container.reset(timeout_s=1)
    with pytest.raises(RunnerProtocolError, match="nobody sent"):
        await container.run(Job(b"no room"))
    await container.destroy()


async def test_files_that_no_process_could_write_are_refused_with_the_cause() -> None:
    container, _, _ = await started()
    with pytest.raises(NotWritten, match="too many processes or threads"):
        await container.run(Job(b"no process", files=[InputFile("a", b"x")]))
    await container.reset(timeout_s=1)
    with pytest.raises(RunnerProtocolError, match="nobody sent"):
        await container.run(Job(b"no process"))
    await container.destroy()


async def test_runs_are_numbered_so_that_a_late_answer_is_told_from_a_new_one() -> None:
    container, fake, _ = await started()
    for _ in range(2):
        await container.run(Job(b"ok"))
        await container.reset(timeout_s=1)
    assert [header.run for header, _, _ in fake.jobs] == [1, 2]
    await container.destroy()


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (b"die", ContainerLost),
        (b"die in a frame", ContainerLost),
        (b"garbage", RunnerProtocolError),
        (b"lie about the run", RunnerProtocolError),
        (b"malformed exit", RunnerProtocolError),
        (b"flood", RunnerProtocolError),
        (b"ready again", RunnerProtocolError),
    ],
)
async def test_a_runner_that_fails_is_an_error_and_the_container_lost(
    code: bytes, error: type[PoolError]
) -> None:
    container, _, engine = await started()
    lost: list[Container] = []
    container.on_lost = lost.append
    with pytest.raises(error) as raised:
        await container.run(Job(code))
    assert raised.value.begun
    assert container.lost
    assert lost == [container]
    with pytest.raises(error):
        await container.run(Job(b"ok"))
    await container.destroy()
    assert engine.containers == {}


async def test_a_runner_that_says_nothing_is_given_up_past_the_snippets_own_limit() -> None:
    container, _, _ = await started()
    began = asyncio.get_running_loop().time()
    with pytest.raises(RunnerProtocolError, match="within 7 s") as raised:
        await container.run(Job(b"hang", timeout_s=2))
    assert raised.value.begun
    assert asyncio.get_running_loop().time() - began == pytest.approx(7)
    await container.destroy()


async def test_a_second_exit_is_an_offence_although_the_first_counts() -> None:
    container, _, _ = await started()
    assert (await container.run(Job(b"exit twice"))).status is Status.OK
    await quiet()
    assert container.lost
    await container.destroy()


async def test_the_answer_to_a_cancelled_run_never_becomes_that_of_the_next() -> None:
    container, fake, _ = await started()
    running = asyncio.create_task(container.run(Job(b"hang")))
    await quiet()
    running.cancel()
    await asyncio.wait([running])
    fake.finish(b"secret of the first")
    await quiet()
    assert container.lost
    with pytest.raises(RunnerProtocolError):
        await container.run(Job(b"ok"))
    await container.destroy()


@pytest.mark.parametrize(
    ("code", "detail"),
    [
        (b"dirty", "3 inodes are left"),
        (b"die in reset", "the container ended"),
        (b"slow reset", "reset took over 3 s"),
    ],
)
async def test_a_reset_without_a_clean_report_is_dirty(code: bytes, detail: str) -> None:
    container, _, _ = await started()
    await container.run(Job(code))
    report = await container.reset(timeout_s=3)
    assert (report.clean, report.detail) == (False, detail)
    await container.destroy()


async def test_speaking_while_nothing_runs_loses_the_container() -> None:
    container, fake, _ = await started()
    fake.finish_reset()
    await quiet()
    assert container.lost
    await container.destroy()


async def test_destroying_ends_a_run_and_may_be_repeated_until_the_engine_obeys() -> None:
    container, fake, engine = await started(FakeEngine(remove_errors=deque([EngineError("busy")])))
    container.on_lost = lambda _: pytest.fail("a container that is destroyed is not lost")
    running = asyncio.create_task(container.run(Job(b"hang")))
    await quiet()
    with pytest.raises(EngineError):
        await container.destroy()
    with pytest.raises(ContainerLost):
        await running
    assert fake.ended
    assert len(engine.containers) == 1
    await container.destroy()
    assert engine.containers == {}
