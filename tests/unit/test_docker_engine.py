"""The seam to the engine, as far as it needs no engine: addresses and last words."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import os
import socket
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from aiohttp import ClientTimeout, web
from yarl import URL

from deploy.setup import engine_api
from pgexec.settings import SettingsError, load_settings
from pool.engine.address import find_engine
from pool.engine.api import EngineObserver, Failure, Operation
from pool.engine.contexts import usual_sockets
from pool.engine.docker import DockerEngine
from pool.engine.image import prepare
from pool.engine.stream import AttachedStream, EngineStream
from pool.errors import ContainerLost, EngineError, EngineUnavailable, ImageMissing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


def test_a_socket_where_nobody_listens_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    paths = [str(tmp_path / "dead"), str(tmp_path / "alive")]
    monkeypatch.setattr("pool.engine.address.usual_sockets", lambda: paths)
    with socket.socket(socket.AF_UNIX) as dead, socket.socket(socket.AF_UNIX) as alive:
        dead.bind(paths[0])
        assert find_engine("") == f"unix://{paths[0]}"
        alive.bind(paths[1])
        alive.listen()
        assert find_engine("") == f"unix://{paths[1]}"


def test_a_socket_that_this_user_may_not_use_is_the_one_to_speak_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    troubles = {"/none": errno.ENOENT, "/closed": errno.EACCES}
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setattr("pool.engine.address.usual_sockets", lambda: list(troubles))
    monkeypatch.setattr("pool.engine.address._trouble", troubles.__getitem__)
    assert find_engine("") == "unix:///closed"


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (
            errno.EACCES,
            rf"^version: user {os.getuid()} may not use unix://\S+, which is for the group \S+$",
        ),
        (errno.ECONNREFUSED, r"^version: no engine listens at unix://\S+$"),
        (errno.ENOENT, r"^version: no engine listens at unix://\S+$"),
        (errno.EHOSTUNREACH, r"^version: no connection to unix://\S+: No route to host$"),
    ],
)
async def test_an_engine_that_cannot_be_reached_is_a_sentence_of_ours(
    monkeypatch: pytest.MonkeyPatch, engine: DockerEngine, number: int, sentence: str
) -> None:
    async def connect(*_: object, **__: object) -> Any:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(asyncio.get_running_loop(), "create_unix_connection", connect)
    with pytest.raises(EngineUnavailable, match=sentence):
        await engine.version()
    engine.docker.api_version = "auto"
    with pytest.raises(EngineUnavailable, match=sentence.replace("version", "list")):
        await engine.owned("label")


def test_server_and_set_up_look_in_the_same_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setattr("pathlib.Path.exists", lambda _: True)
    assert engine_api.addresses() == [f"unix://{path}" for path in usual_sockets()]


def test_an_address_that_cannot_be_used_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "ssh://somewhere")
    with pytest.raises(SettingsError, match=r"^DOCKER_HOST is 'ssh://somewhere', but must be "):
        load_settings()


def test_a_path_alone_is_no_docker_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "/run/docker.sock")
    with pytest.raises(SettingsError, match=r"^DOCKER_HOST is '/run/docker.sock', but must be "):
        load_settings()


@pytest.fixture
def docker_config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Give Docker's own settings with a context `mine`, which nothing has chosen."""
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    for name, host in (("mine", "unix:///mine.sock"), ("far", "ssh://somewhere")):
        meta = tmp_path / "contexts/meta" / hashlib.sha256(name.encode()).hexdigest()
        meta.mkdir(parents=True)
        endpoints = {"docker": {"Host": host, "SkipTLSVerify": False}}
        (meta / "meta.json").write_text(json.dumps({"Name": name, "Endpoints": endpoints}))
    return tmp_path


def test_the_current_context_is_followed(
    monkeypatch: pytest.MonkeyPatch, docker_config: Path
) -> None:
    current = docker_config / "config.json"
    current.write_text('{"currentContext": "mine"}')
    assert find_engine("") == "unix:///mine.sock"
    assert engine_api.addresses() == ["unix:///mine.sock"]
    monkeypatch.setenv("DOCKER_HOST", "tcp://first:2375")
    assert find_engine("") == "tcp://first:2375"
    monkeypatch.delenv("DOCKER_HOST")
    monkeypatch.setenv("DOCKER_CONTEXT", "default")
    assert find_engine("") in {f"unix://{path}" for path in usual_sockets()}
    current.write_text("not JSON")
    monkeypatch.setenv("DOCKER_CONTEXT", "mine")
    assert find_engine("") == "unix:///mine.sock"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("gone", "DOCKER_CONTEXT is 'gone', a context that names no engine: set PGEXEC_DOCKER"),
        ("far", "DOCKER_CONTEXT is 'far', at ssh://somewhere, which cannot be used: set PGEXEC_"),
    ],
)
@pytest.mark.usefixtures("docker_config")
def test_a_context_that_cannot_be_followed_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, sentence: str
) -> None:
    monkeypatch.setenv("DOCKER_CONTEXT", name)
    with pytest.raises(SettingsError, match=f"^{sentence}"):
        load_settings()
    with pytest.raises(engine_api.EngineError, match=f"^{sentence}"):
        engine_api.addresses()
    monkeypatch.setenv("PGEXEC_DOCKER_HOST", "unix:///mine.sock")
    load_settings()


def test_a_context_with_certificates_says_how_to_use_them(
    monkeypatch: pytest.MonkeyPatch, docker_config: Path
) -> None:
    key = hashlib.sha256(b"mine").hexdigest()
    (docker_config / f"contexts/tls/{key}/docker").mkdir(parents=True)
    monkeypatch.setenv("DOCKER_CONTEXT", "mine")
    with pytest.raises(SettingsError, match=rf" and DOCKER_CERT_PATH to \S+{key}/docker$"):
        load_settings()


async def test_https_without_certificates_is_an_os_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DOCKER_CERT_PATH", str(tmp_path))
    with pytest.raises(OSError, match="No such file"):
        DockerEngine("https://127.0.0.1:2376", streams=1)


async def test_only_the_last_line_of_a_traceback_reaches_clients() -> None:
    said = [SimpleNamespace(stream=2, data=b"Traceback:\n  File x\nOSError: no\n"), None]

    async def read_out() -> Any:
        return said.pop(0)

    stream: Any = SimpleNamespace(read_out=read_out)
    with pytest.raises(ContainerLost) as caught:
        await AttachedStream(stream, EngineObserver()).read()
    assert str(caught.value) == "the container ended: OSError: no"


class Calls(EngineObserver):
    def __init__(self) -> None:
        self.seen: list[tuple[Operation, Failure | None]] = []

    def called(self, operation: Operation, seconds: float, failure: Failure | None) -> None:
        assert seconds >= 0
        self.seen.append((operation, failure))


class Scripted:
    """An engine that answers with `answers`, each a status and a body; then it hangs."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.answers: list[tuple[int, bytes]] = []
        self.asked: list[bytes] = []
        self.calls = Calls()

    def connect(self, path: str = "") -> DockerEngine:
        engine = DockerEngine(f"unix://{path or self.path}", streams=1)
        engine.docker.api_version = "v1.41"
        engine.observer = self.calls
        return engine

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.readuntil(b"\r\n\r\n")
        self.asked.append(asked.partition(b" HTTP")[0])
        if self.answers:
            status, body = self.answers.pop(0)
            head = b"HTTP/1.1 %d Words\r\nContent-Type: application/json\r\nConnection: close\r\n"
            writer.write(head % status + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        else:
            await reader.read()
        writer.close()


@pytest.fixture
async def scripted(tmp_path: Path) -> AsyncIterator[Scripted]:
    script = Scripted(str(tmp_path / "engine.sock"))
    async with await asyncio.start_unix_server(script.serve, script.path):
        yield script


@pytest.fixture
async def engine(scripted: Scripted) -> AsyncIterator[DockerEngine]:
    engine = scripted.connect()
    yield engine
    await engine.close()


async def test_the_observer_hears_how_each_call_ended(
    scripted: Scripted, engine: DockerEngine
) -> None:
    scripted.answers += [(200, b'{"Version": "1"}'), (500, b'{"message": "no"}')]
    await engine.version()
    with pytest.raises(EngineError):
        await engine.info()
    assert scripted.calls.seen == [(Operation.VERSION, None), (Operation.INFO, Failure.REFUSED)]


async def test_two_that_need_the_network_at_once_make_it_once(
    scripted: Scripted, engine: DockerEngine
) -> None:
    scripted.answers += [(404, b'{"message": "no"}'), (201, b'{"Id": "1"}'), (200, b'{"Id": "1"}')]
    await asyncio.gather(*(engine.ensure_network("net", "label") for _ in range(2)))
    look, make = b"GET /v1.41/networks/net", b"POST /v1.41/networks/create"
    assert scripted.asked == [look, make, look]


@pytest.mark.parametrize(("news", "ran_out"), [(b'{"Action": "oom"}\n', True), (b"", False)])
async def test_the_engine_is_asked_whether_memory_ran_out(
    scripted: Scripted, engine: DockerEngine, news: bytes, *, ran_out: bool
) -> None:
    scripted.answers += [(200, news)]
    assert await engine.ran_out_of_memory("c1", 5.0) is ran_out
    (asked,) = scripted.asked
    assert b"since=5.000000" in asked
    assert b"c1" in asked


async def test_what_is_not_there_is_no_failure_of_the_engine(
    scripted: Scripted, engine: DockerEngine
) -> None:
    scripted.answers += [(404, b'{"message": "no such image"}'), (404, b'{"message": "no such"}')]
    assert await engine.image_id("none") == ""
    await engine.remove("none")
    assert scripted.calls.seen == [(Operation.INSPECT, None), (Operation.REMOVE, None)]


async def test_a_caller_who_loses_patience_is_told_from_an_engine_that_is_away(
    scripted: Scripted, engine: DockerEngine
) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await engine.version()
    nowhere = scripted.connect("/nowhere/docker.sock")
    with pytest.raises(EngineUnavailable):
        await nowhere.info()
    await nowhere.close()
    assert scripted.calls.seen == [
        (Operation.VERSION, Failure.CANCELLED),
        (Operation.INFO, Failure.UNAVAILABLE),
    ]


async def test_an_engine_that_does_not_remove_is_away_in_one_sentence(
    scripted: Scripted, engine: DockerEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pool.engine.docker._REMOVE_TIMEOUT_S", 0.05)
    with pytest.raises(EngineUnavailable, match=r"^remove: no answer in 0\.05 s$"):
        await engine.remove("c0ffee")
    assert scripted.calls.seen == [(Operation.REMOVE, Failure.UNAVAILABLE)]


async def test_a_container_that_the_engine_removes_already_is_gone_when_it_is_gone(
    scripted: Scripted, engine: DockerEngine
) -> None:
    under_way = (409, b'{"message": "removal of container c0ffee is already in progress"}')
    scripted.answers += [under_way, under_way, (404, b'{"message": "no such container"}')]
    await engine.remove("c0ffee")
    assert scripted.answers == []
    assert scripted.calls.seen == [(Operation.REMOVE, None)]


async def test_a_removal_that_never_ends_is_no_success(
    scripted: Scripted, engine: DockerEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pool.engine.docker._REMOVE_TIMEOUT_S", 0.05)
    scripted.answers += [(409, b'{"message": "removal is already in progress"}')] * 100
    with pytest.raises(EngineUnavailable, match=r"^remove: no answer in 0\.05 s$"):
        await engine.remove("c0ffee")


async def test_the_bytes_of_a_stream_are_added_up_both_ways() -> None:
    said = [SimpleNamespace(stream=1, data=b"frame")]

    async def read_out() -> Any:
        return said.pop(0)

    async def write_in(data: bytes) -> None:
        pass

    observer = EngineObserver()
    stream: Any = SimpleNamespace(read_out=read_out, write_in=write_in)
    attached = AttachedStream(stream, observer)
    assert await attached.read() == b"frame"
    await attached.write(b"a job")
    await attached.write(b"more")
    assert (observer.received_bytes, observer.sent_bytes) == (5, 9)


async def test_an_answer_that_is_no_json_is_an_engine_error_and_not_a_traceback(
    scripted: Scripted, engine: DockerEngine
) -> None:
    scripted.answers += [(200, b"{nope")]
    with pytest.raises(EngineError, match="list: the answer makes no sense"):
        await engine.paused("pgexec")
    assert scripted.calls.seen == [(Operation.LIST, Failure.REFUSED)]


async def test_an_engine_that_comes_back_as_an_older_version_is_asked_in_its_own_tongue(
    tmp_path: Path,
) -> None:
    known = "1.41"
    asked: list[str] = []

    async def answer(request: web.BaseRequest) -> web.Response:
        asked.append(request.path)
        if request.path == "/_ping":
            return web.Response(text="OK", headers={"Api-Version": known})
        if f"/v{known}/" not in request.path:
            return web.json_response({"message": "client version is too new"}, status=400)
        return web.json_response([])

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    await web.UnixSite(runner, str(tmp_path / "socket")).start()
    engine = DockerEngine(f"unix://{tmp_path}/socket", streams=1)
    assert await engine.paused("pgexec") == []
    known = "1.40"
    with pytest.raises(EngineError, match="too new"):
        await engine.paused("pgexec")
    engine.renegotiate()
    assert await engine.paused("pgexec") == []
    assert asked[-1] == "/v1.40/containers/json"
    assert "/version" not in asked  # for which Podman starts fifteen processes
    await engine.close()
    await runner.cleanup()


@pytest.mark.parametrize("sentence", [b"manifest unknown", b"No such image: none"])
async def test_what_creating_and_pulling_do_not_find_is_the_image(
    scripted: Scripted, engine: DockerEngine, sentence: bytes
) -> None:
    scripted.answers += [(404, b'{"message": "%s"}' % sentence)] * 2
    with pytest.raises(ImageMissing, match=sentence.decode()):
        await engine.start({"Image": "none"})
    with pytest.raises(ImageMissing, match=sentence.decode()):
        async for _ in engine.pull("none"):
            pass


async def test_a_sentence_that_speaks_of_an_image_makes_nothing_else_a_missing_image(
    scripted: Scripted, engine: DockerEngine
) -> None:
    sentence = b'{"message": "no such container: image-maker"}'
    scripted.answers += [(404, sentence), (404, sentence), (500, sentence)]
    for ask in (
        engine.commit("image-maker", "repository", "tag", labels={}),
        engine.ensure_volume("volume", "label"),
        engine.image_id("image"),
    ):
        with pytest.raises(EngineError) as caught:
            await ask
        assert type(caught.value) is EngineError


async def test_a_write_to_a_container_that_has_gone_is_a_lost_container(tmp_path: Path) -> None:
    gone = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.readuntil(b"\r\n\r\n")
        if b"/attach" in asked:
            writer.write(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
            await gone.wait()
        else:
            body = b'{"Id": "c0ffee"}'
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
            writer.write(b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        writer.close()

    async with await asyncio.start_unix_server(serve, str(tmp_path / "socket")):
        engine = DockerEngine(f"unix://{tmp_path}/socket", streams=1)
        engine.docker.api_version = "v1.41"
        _, stream = await engine.start({})
        await stream.write(b"a job")
        gone.set()
        assert await stream.read() == b""
        with pytest.raises(ContainerLost, match="the container's stream is closed"):
            await stream.write(b"another")
        await stream.close()
        with pytest.raises(ContainerLost, match="the container's stream is closed"):
            await stream.write(b"another")
        await engine.close()


async def test_a_peer_that_hangs_up_while_a_stream_opens_is_a_lost_connection() -> None:
    closed: list[bool] = []

    async def read() -> bytes:
        return b""

    async def setup() -> Any:
        return URL("containers/c0ffee/attach"), None, False

    async def answer(*_: Any, **__: Any) -> Any:
        connection = SimpleNamespace(protocol=None, transport=None)
        return SimpleNamespace(
            connection=connection, read=read, close=lambda: closed.append(True), status=101
        )

    docker: Any = SimpleNamespace(_timeout=ClientTimeout(), _do_query=answer)
    stream = EngineStream(docker, setup)
    with pytest.raises(ConnectionResetError):
        await stream.open()
    assert closed == [True]


@pytest.mark.parametrize(
    ("its", "machine", "foreign"),
    [
        ("arm64", "amd64", True),
        ("amd64", "arm64", True),
        ("amd64", "amd64", False),
        ("386", "amd64", False),
        ("arm", "arm64", False),
        ("", "amd64", False),
        ("amd64", "", False),
    ],
)
async def test_an_image_of_other_processors_is_named_with_what_to_pull(
    scripted: Scripted, engine: DockerEngine, its: str, machine: str, *, foreign: bool
) -> None:
    scripted.answers += [
        (200, json.dumps({"Id": "1", "Architecture": its}).encode()),
        (200, json.dumps({"Version": "28", "Arch": machine}).encode()),
    ]
    sentence = f"python:1 is for {its}, and the engine's machine is {machine}: "
    sentence += f"docker pull --platform linux/{machine} python:1"
    assert await engine.foreign("python:1") == (sentence if foreign else "")


async def test_no_image_is_prepared_from_one_of_other_processors() -> None:
    class Engine:
        async def image_id(self, name: str) -> str:
            return "1" if name == "python:1" else ""

        async def foreign(self, name: str) -> str:
            return f"{name} is for others"

    with pytest.raises(ImageMissing, match=r"^python:1 is for others$"):
        await prepare(cast("DockerEngine", Engine()), "python:1", directories=())
