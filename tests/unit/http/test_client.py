"""The client: typed results, errors that say if anything ran, and only then another try."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from pgexec.client import AsyncClient, Client, CompletedRun, ReturnedFile, RunLost, RunRefused
from pgexec.client.events import EventReader
from pgexec.client.wire import Patience, body_of, failure
from pool.errors import ContainerLost, PoolSaturated
from pool.inside.protocol import Kind
from pool.job import Status
from tests.unit.http.rig import make_result

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from pgexec.service import Progress
    from tests.unit.http.rig import Running, Serve

FULL = PoolSaturated("full", retry_after_s=1)
RESULT = {
    "data": "1\n",
    "error": None,
    "status": "ok",
    "stdout": "1\n",
    "stderr": "",
    "exit_code": 0,
    "signal": None,
    "duration_s": 0.1,
    "cpu_s": 0.1,
    "peak_memory_bytes": 1,
    "truncated": False,
}
PNG = {"name": "out/plot.png", "size_bytes": 3, "content": "AQID", "encoding": "base64"}


@pytest.fixture
async def client(server: Running) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(server.url) as client:
        yield client


def succeeding_after(server: Running, error: Exception, tries: int) -> None:
    """Let the service raise `error` so many times."""
    run, left = server.service.run, tries

    async def sometimes(*args: Any) -> Any:
        nonlocal left
        left -= 1
        server.service.error = error if left >= 0 else None
        return await run(*args)

    server.service.run = sometimes  # type: ignore[method-assign, assignment]


async def test_a_run_gives_a_typed_result(server: Running, client: AsyncClient) -> None:
    server.service.result = make_result(Status.ERROR, exit_code=3, stderr=b"no\n")
    result = await client.run(
        "x", args=["a"], env={"A": "b"}, files={"a/b.csv": b"\xff\n", "c": "d"}
    )
    assert isinstance(result, CompletedRun)
    assert (result.status, result.exit_code, result.stderr, result.ok) == (
        "error",
        3,
        "no\n",
        False,
    )
    (request,) = server.service.requests
    assert (request.language, request.args, request.env) == ("python", ["a"], {"A": "b"})
    assert [(file.name, file.data) for file in request.files] == [
        ("a/b.csv", b"\xff\n"),
        ("c", b"d"),
    ]


async def test_a_stream_gives_each_event_and_the_result_last(
    server: Running, client: AsyncClient
) -> None:
    async def script(progress: Progress) -> None:
        progress.queued(2)
        progress.line("Collecting")
        progress.output(Kind.STDOUT, "a\u2028\x85b\r\n".encode())  # ends of lines to str, not to us
        await asyncio.sleep(0)

    server.service.script = script
    events = [event async for event in client.stream("x")]
    assert [event.kind for event in events] == ["queue", "install", "stdout", "result"]
    assert (events[0].position, events[1].text) == (2, "Collecting")
    assert events[2].text == "a\u2028\x85b\r\n"
    assert events[-1].result is not None
    assert events[-1].result.stdout == "1\n"


async def test_the_client_of_threads_does_the_same(server: Running) -> None:
    def call() -> tuple[str, list[str]]:
        with Client(server.url) as client:
            return client.run("x").stdout, [event.kind for event in client.stream("x")]

    assert await asyncio.to_thread(call) == ("1\n", ["result"])


async def test_the_key_and_address_come_from_the_environment(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await serve(api_keys="alice:secret")
    monkeypatch.setenv("PGEXEC_URL", server.url)
    monkeypatch.setenv("PGEXEC_API_KEY", "secret")
    async with AsyncClient() as client:
        await client.run("x")
    assert server.service.tenants == ["alice"]
    async with AsyncClient(key="wrong") as client:
        with pytest.raises(RunRefused) as refused:
            await client.run("x")
    assert (refused.value.code, refused.value.status) == ("unauthorized", 401)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["run", "stream"])
async def test_what_did_not_run_is_tried_again(
    server: Running, client: AsyncClient, how: str
) -> None:
    succeeding_after(server, FULL, 1)
    if how == "run":
        assert (await client.run("x")).ok
    else:
        assert [event.kind async for event in client.stream("x")] == ["result"]
    assert len(server.service.requests) == 2


@pytest.mark.parametrize(
    ("status", "again"), [(429, True), (503, True), (400, False), (401, False), (500, False)]
)
def test_only_statuses_that_say_that_nothing_ran_are_tried_again(
    *, status: int, again: bool
) -> None:
    refused = RunRefused("no", code="x", status=status, retry_after_s=1)
    with contextlib.nullcontext() if again else pytest.raises(RunRefused):
        assert 1 <= Patience(30).wait_s(refused) < 2
    assert isinstance(failure(status, None), RunRefused) is (status != 500)


def test_an_option_that_is_none_is_left_out() -> None:
    nothing: Any = None
    body = json.loads(body_of("x", {"files": nothing, "args": nothing, "timeout_s": 1}))
    assert body == {"language": "python", "code": "x", "timeout_s": 1}


async def test_a_refusal_is_raised_once_the_deadline_would_pass(server: Running) -> None:
    server.service.error = FULL
    async with AsyncClient(server.url, retry_within_s=0.5) as client:
        with pytest.raises(RunRefused) as refused:
            await client.run("x")
    error = refused.value
    assert (error.code, error.status, error.retry_after_s) == ("saturated", 503, 1)
    assert len(server.service.requests) == 1


@pytest.mark.parametrize("how", ["run", "stream"])
async def test_what_may_have_run_is_not_tried_again(
    server: Running, client: AsyncClient, how: str
) -> None:
    lost_run = ContainerLost("gone")
    lost_run.begun = True
    succeeding_after(server, lost_run, 1)
    with pytest.raises(RunLost) as lost:
        await (client.run("x") if how == "run" else anext(client.stream("x")))
    assert (lost.value.code, lost.value.status) == ("container_lost", 502)
    assert len(server.service.requests) == 1


@pytest.mark.slow
async def test_a_refusal_within_a_stream_is_tried_again(
    server: Running, client: AsyncClient
) -> None:
    async def script(progress: Progress) -> None:
        progress.queued(1)

    server.service.script = script
    succeeding_after(server, FULL, 1)
    assert [event.kind async for event in client.stream("x")] == ["queue", "queue", "result"]


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"])
async def test_a_cut_connection_may_have_run(head: bytes) -> None:
    asked = 0

    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head)
        writer.close()

    async with await asyncio.start_server(cut, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        async with AsyncClient(f"http://127.0.0.1:{port}") as client:
            with pytest.raises(RunLost) as lost:
                await client.run("x")
    assert (lost.value.code, asked) == ("cut", 1)
    async with AsyncClient(f"http://127.0.0.1:{port}") as client:
        with pytest.raises(RunRefused) as refused:
            await client.run("x")
    assert refused.value.code == "unreachable"


async def test_a_cancelled_run_ends_on_the_server(server: Running, client: AsyncClient) -> None:
    server.service.gate = asyncio.Event()
    running = asyncio.create_task(client.run("x"))
    await server.service.entered.wait()
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    await asyncio.wait_for(server.service.cancelled.wait(), 10)


def test_files_of_a_stream_are_in_its_result() -> None:
    listed = {"name": PNG["name"], "size_bytes": 3}
    events = [("file", PNG), ("result", {**RESULT, "files": [listed], "newer": 1})]
    data = "".join(f"event: {name}\ndata: {json.dumps(doc)}\n\n" for name, doc in events).encode()
    reader = EventReader()
    read = [event for at in range(len(data)) for event in reader.feed(data[at : at + 1])]
    reader.end()
    result = read[-1].result
    assert result is not None
    assert result.files["out/plot.png"].content == b"\1\2\3"


def test_a_stream_without_its_last_event_is_a_lost_run() -> None:
    reader = EventReader()
    list(reader.feed(b': \n\nevent: stdout\ndata: {"text": "1"}\n\n'))
    with pytest.raises(RunLost, match="cut off"):
        reader.end()


def test_a_file_is_saved_by_its_name_and_only_inside(tmp_path: Path) -> None:
    image = ReturnedFile.of(PNG)
    assert image.save_in(tmp_path) == tmp_path / "out" / "plot.png"
    assert (tmp_path / "out" / "plot.png").read_bytes() == b"\1\2\3"
    (tmp_path / "link").symlink_to("/")
    for name in ("../x", "/x", "a/../../x", "link/tmp/x", "a\\b"):
        with pytest.raises(ValueError, match="would not be inside"):
            ReturnedFile.of(PNG | {"name": name}).save_in(tmp_path)
    left_out = ReturnedFile.of({"name": "big", "size_bytes": 9, "omitted": "over the limit"})
    with pytest.raises(ValueError, match="over the limit"):
        left_out.save(tmp_path / "big")


def test_a_notebook_shows_images_and_never_markup() -> None:
    assert ReturnedFile.of(PNG)._repr_mimebundle_()["image/png"] == "AQID"
    for name in ("a.html", "a.svg", "a.csv"):
        assert set(ReturnedFile.of(PNG | {"name": name})._repr_mimebundle_()) == {"text/plain"}


def test_the_client_needs_nothing_of_the_servers() -> None:
    """What pool and server import from PyPI, but for what httpx itself needs."""
    code = (
        "import sys\n"
        "foreign = ('aiohttp', 'aiodocker', 'pydantic', 'pydantic_settings', 'uvloop', 'packaging',"
        " 'prometheus_client', 'pool', 'pgexec.contract', 'pgexec.settings')\n"
        "for name in foreign: sys.modules[name] = None\n"
        "import pgexec.client, pgexec.client.command\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


async def test_many_inputs_have_a_result_or_an_error_each(
    server: Running, client: AsyncClient
) -> None:
    run = server.service.run

    async def by_input(request: Any, *args: Any) -> Any:
        lost = ContainerLost("gone")
        lost.begun = True
        server.service.error = lost if request.stdin == "lost" else None
        text = request.stdin.encode()
        server.service.result = make_result(data=text, stdout=text)
        return await run(request, *args)

    server.service.run = by_input  # type: ignore[method-assign, assignment]
    server.service.most = 1
    batch = await client.run_many("x", ["a", "b", "lost"], expected=["a", "x", ""], args=["y"])
    assert [one.matches for one in batch] == [True, False, None]
    assert [one.passed for one in batch] == [True, False, False]
    assert (len(batch), batch.passed, batch.first_failure) == (3, 1, 1)
    assert batch[1].result is not None
    assert batch[1].result.stdout == "b"
    assert isinstance(batch[2].error, RunLost)
    assert (batch[2].error.code, batch[2].error.status) == ("container_lost", 502)
    batch = await client.run_many(
        "x", ["b", "a"], expected=["x", "a"], stop_on="first_failure", compare="exact"
    )
    assert isinstance(batch[1].error, RunRefused)
    assert (batch[1].error.code, batch[1].error.status) == ("stopped", None)


async def test_many_inputs_of_which_none_ran_are_tried_again_or_an_exception(
    server: Running,
) -> None:
    succeeding_after(server, FULL, 2)

    def both() -> None:
        with Client(server.url, retry_within_s=0) as client, pytest.raises(RunRefused):
            client.run_many("x", ["a"])
        with Client(server.url) as client:
            assert client.run_many("x", ["a"]).passed == 1

    await asyncio.to_thread(both)
