"""The whole server on a fake engine: it starts, serves, drains and stops."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import ClientSession

from pgexec.app import ListenError, serve
from pgexec.settings import Settings
from pgexec.settings.pool import pool_config
from pgexec.settings.profiles import DEFAULT
from pool.config import PoolConfig
from pool.container import Container
from pool.dependencies.layer import Layer
from pool.errors import EngineUnavailable, InstallError
from pool.manager import NO_LEASES
from tests import sse
from tests.unit.fake_engine import DOCUMENT, FakeEngine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping
    from pathlib import Path

    from pgexec.backend.laboratory import Laboratory
    from pool.dependencies.pip_log import OnLine
    from pool.dependencies.requirements import Requirements
    from pool.engine.api import EngineObserver
    from pool.manager import PoolManager
    from pool.observer import LayerObserver

Start = Callable[..., subprocess.Popen[str]]


class FakeDependencies:
    """Has every package but one."""

    @contextlib.asynccontextmanager
    async def use(
        self,
        requirements: Requirements,
        *,
        language: str,
        tenant: str,
        on_line: OnLine | None = None,
    ) -> AsyncIterator[Layer]:
        if "no-such-package" in requirements:
            raise InstallError("pip failed", log="no matching distribution")
        yield Layer("key", "name", 0, requirements, 0.0, 0.0)

    async def is_damaged(self, layer: Layer) -> bool:
        return False


class FakeBackend:
    """Starts containers on a fake engine, unless that is away."""

    pools: Mapping[str, PoolManager]
    pool: PoolManager

    def __init__(self) -> None:
        self.engine = FakeEngine()
        self.away = False
        self.closed = False
        self.attending = asyncio.Event()
        self.probing = asyncio.Event()
        self.probed = asyncio.Event()

    def observe(self, engine: EngineObserver, layers: LayerObserver) -> None:
        pass

    def stop_installing(self) -> None:
        pass

    async def launch(self, number: int, language: str) -> Container:
        if self.away:
            raise EngineUnavailable("the engine does not answer")
        return await Container.start(self.engine, DOCUMENT)

    async def laboratory(self, language: str) -> Laboratory:
        self.probing.set()
        try:
            return await asyncio.Future()
        finally:
            self.probed.set()

    @property
    def dependencies(self) -> FakeDependencies:
        return FakeDependencies()

    async def attend(self, pools: Mapping[str, PoolManager]) -> None:
        self.pools = pools
        self.pool = pools[DEFAULT]
        self.attending.set()
        await asyncio.Event().wait()

    async def close(self) -> None:
        self.closed = True


class App:
    def __init__(
        self, port: int, backend: FakeBackend, task: asyncio.Task[None], session: ClientSession
    ) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.backend = backend
        self.task = task
        self.session = session

    async def post(self, **fields: Any) -> tuple[int, Any]:
        body = {"language": "python", "code": "x", **fields}
        async with self.session.post(self.url + "/run", json=body) as response:
            return response.status, await response.json()

    async def get(self, path: str) -> tuple[int, Any]:
        async with self.session.get(self.url + path) as response:
            return response.status, await response.json()

    async def until_ready(self) -> None:
        async with asyncio.timeout(20):
            while (await self.get("/readyz"))[0] != 200:  # nobody tells
                await asyncio.sleep(0)  # the answer is the synchronisation


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def settings_of(port: int, **changes: Any) -> Settings:
    return Settings.of(host="127.0.0.1", port=port, pool_min_idle=1, drain_timeout_s=20, **changes)


@pytest.fixture
async def app() -> AsyncIterator[App]:
    port = free_port()
    backend = FakeBackend()
    task = asyncio.create_task(serve(settings_of(port), backend, lambda: None))
    attending = asyncio.create_task(backend.attending.wait())
    await asyncio.wait([task, attending], return_when=asyncio.FIRST_COMPLETED)
    async with ClientSession() as session:
        yield App(port, backend, task, session)
        if not task.done():
            os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(20):
            await task
    assert backend.closed
    assert not backend.engine.containers


async def test_it_tells_once_that_the_pool_is_warm_and_how_long_that_took(
    caplog: pytest.LogCaptureFixture, app: App
) -> None:
    caplog.set_level(logging.INFO, "pgexec")
    async with asyncio.timeout(20):
        while not (told := [one for one in caplog.records if one.getMessage() == "warm"]):
            await app.until_ready()
    (warm,) = told
    assert warm.__dict__["fields"]["idle"] == {"python": 1}
    assert 0 <= warm.__dict__["fields"]["took_s"] < 20


async def test_a_run_goes_through_the_pool(app: App) -> None:
    await app.until_ready()
    status, answer = await app.post()
    assert (status, answer["status"], answer["exit_code"]) == (200, "ok", 0)


async def test_a_stream_goes_through_the_pool_from_the_queue_to_the_result(app: App) -> None:
    await app.until_ready()
    hanging = [asyncio.create_task(app.post(code="hang")) for _ in range(16)]
    pool = app.backend.pool
    async with asyncio.timeout(20):
        while pool.snapshot().leased != pool.config.max_containers:  # nobody tells
            await asyncio.sleep(0)
        body = {"language": "python", "code": "both"}
        async with app.session.post(app.url + "/run", json=body, headers=sse.ASK) as response:
            told = sse.read(response.content)
            assert await anext(told) == ("queue", {"position": 1})
            busy = [one for one in app.backend.engine.containers.values() if one.busy]
            busy.pop().finish()
            assert [await anext(told) for _ in range(3)] == [
                ("stdout", {"text": "1"}),
                ("stderr", {"text": "2"}),
                ("stdout", {"text": "hello\n"}),
            ]
            name, result = await anext(told)
            assert (name, result["data"], result["status"]) == ("result", "12hello\n", "ok")
        for one in busy:
            one.finish()
        assert {status for status, _ in await asyncio.gather(*hanging)} == {200}


async def test_a_wait_in_vain_is_the_last_event(app: App) -> None:
    await app.until_ready()
    app.backend.away = True
    pool = app.backend.pool
    async with pool.lease():
        app.backend.pool.config = replace(pool.config, lease_timeout_s=0.1)
        body = {"language": "python", "code": "x"}
        async with app.session.post(app.url + "/run", json=body, headers=sse.ASK) as response:
            assert response.status == 200
            told = list(sse.parse(await response.read()))
    assert told[0] == ("queue", {"position": 1})
    name, problem = told[-1]
    assert (name, problem["code"], problem["status"]) == ("error", "lease_timeout", 503)
    assert problem["retry_after_s"] >= 1


async def test_a_run_that_is_lost_with_its_container_is_a_502(app: App) -> None:
    await app.until_ready()
    body = {"language": "python", "code": "die"}
    async with app.session.post(app.url + "/run", json=body) as response:
        assert (response.status, (await response.json())["code"]) == (502, "container_lost")
        assert "Retry-After" not in response.headers
    async with app.session.post(app.url + "/run", json=body, headers=sse.ASK) as response:
        name, problem = list(sse.parse(await response.read()))[-1]
    assert (name, problem["code"], problem["status"]) == ("error", "container_lost", 502)
    assert "retry_after_s" not in problem


async def test_dependencies_get_a_container_of_their_own(app: App) -> None:
    await app.until_ready()
    assert (await app.post(dependencies=["requests"]))[0] == 200
    status, answer = await app.post(dependencies=["no-such-package"])
    assert (status, answer["code"]) == (422, "install_failed")
    assert "no matching distribution" in answer["error"]


async def test_the_pool_shows_in_the_metrics(app: App) -> None:
    await app.until_ready()
    async with app.session.get(app.url + "/metrics") as response:
        assert 'pgexec_containers{profile="python",state="idle"} 1.0' in await response.text()


async def test_a_leased_run_ends_before_the_server_does(app: App) -> None:
    await app.until_ready()
    run = asyncio.create_task(app.post(code="hang"))
    async with asyncio.timeout(20):
        while app.backend.pool.snapshot().leased != 1:  # nobody tells
            await asyncio.sleep(0)
    (busy,) = [one for one in app.backend.engine.containers.values() if one.busy]
    await app.get("/ping")  # leaves a connection that is kept alive
    os.kill(os.getpid(), signal.SIGTERM)
    async with asyncio.timeout(20):
        while app.backend.pool.snapshot().unready != NO_LEASES:  # nobody tells
            await asyncio.sleep(0)
    assert (await app.get("/readyz"))[0] == 503
    with pytest.raises(OSError, match="Connect call failed"):
        await asyncio.open_connection(*app.url.removeprefix("http://").split(":"))
    busy.finish()
    status, answer = await run
    assert (status, answer["status"]) == (200, "ok")
    await app.task


async def test_a_server_that_drains_probes_nothing() -> None:
    port, backend = free_port(), FakeBackend()
    settings = settings_of(port, canary_interval_s=0.001)
    task = asyncio.create_task(serve(settings, backend, lambda: None))
    await backend.attending.wait()
    async with ClientSession() as session, asyncio.timeout(20):
        app = App(port, backend, task, session)
        await app.until_ready()
        run = asyncio.create_task(app.post(code="hang"))
        while not (busy := [one for one in backend.engine.containers.values() if one.busy]):
            await asyncio.sleep(0)  # nobody tells
        await backend.probing.wait()
        assert not backend.probed.is_set()
        os.kill(os.getpid(), signal.SIGTERM)
        await backend.probed.wait()
        assert not task.done()
        busy[0].finish()
        assert (await run)[0] == 200
        await task


async def test_a_tenant_with_its_share_of_runs_gets_429_and_others_go_on() -> None:
    port, backend = free_port(), FakeBackend()
    settings = settings_of(port, tenant_max_running=1, api_keys="alice:one,bob:two")
    task = asyncio.create_task(serve(settings, backend, lambda: None))
    await backend.attending.wait()
    alice, bob = ({"Authorization": f"Bearer {key}"} for key in ("one", "two"))
    async with ClientSession(headers=alice) as first, ClientSession(headers=bob) as second:
        app, other = App(port, backend, task, first), App(port, backend, task, second)
        await app.until_ready()
        run = asyncio.create_task(app.post(code="hang"))
        async with asyncio.timeout(20):
            while backend.pool.snapshot().leased != 1:
                await asyncio.sleep(0)
        body = {"language": "python", "code": "x"}
        async with first.post(app.url + "/run", json=body) as response:
            assert response.status == 429
            assert int(response.headers["Retry-After"]) >= 1
            assert await response.json() == {
                "data": None,
                "error": "this tenant has 1 run in progress or waiting already, as many as it "
                "may; PGEXEC_TENANT_MAX_RUNNING says how many",
                "code": "too_many_runs",
            }
        async with first.get(app.url + "/metrics") as response:
            refused = 'pgexec_rejections_total{profile="python",reason="tenant_saturated"} 1.0'
            assert refused in await response.text()
        assert (await other.post())[0] == 200
        (busy,) = [one for one in backend.engine.containers.values() if one.busy]
        busy.finish()
        assert (await run)[0] == 200
        assert (await app.post())[0] == 200
        os.kill(os.getpid(), signal.SIGTERM)
        await task


async def test_the_server_listens_before_there_is_an_engine() -> None:
    port, backend = free_port(), FakeBackend()
    backend.away = True
    task = asyncio.create_task(serve(settings_of(port), backend, lambda: None))
    await backend.attending.wait()
    async with ClientSession() as session:
        app = App(port, backend, task, session)
        async with asyncio.timeout(20):
            while "does not answer" not in (await app.get("/readyz"))[1]["error"]:  # nobody tells
                await asyncio.sleep(0)
        assert (await app.get("/healthz"))[0] == 200
        backend.away = False
        backend.pool.retry()
        await app.until_ready()
        assert (await app.post())[0] == 200
        os.kill(os.getpid(), signal.SIGINT)
        await task


async def test_a_port_in_use_is_one_sentence() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        backend = FakeBackend()
        with pytest.raises(ListenError) as caught:
            await serve(settings_of(port), backend, lambda: None)
    assert str(caught.value).startswith(f"127.0.0.1:{port} is in use")
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.EADDRINUSE
    assert backend.closed


async def test_an_attendant_that_fails_ends_the_server() -> None:
    class FailingBackend(FakeBackend):
        async def attend(self, pools: Mapping[str, PoolManager]) -> None:
            raise ZeroDivisionError

    backend = FailingBackend()
    with pytest.raises(ZeroDivisionError):
        await serve(settings_of(0), backend, lambda: None)
    assert backend.closed


def test_the_pool_gets_its_defaults_from_the_settings() -> None:
    settings = Settings.of(start_concurrency=2)
    assert pool_config(settings) == PoolConfig()


SCRIPT = """
import asyncio, sys
from pgexec.__main__ import run_server
from pool.errors import EngineUnavailable
from tests.unit.http.test_app import FakeDependencies

class Backend:
    def __init__(self, settings): pass
    def observe(self, engine, layers): pass
    def stop_installing(self): pass
    async def launch(self, number, language): raise EngineUnavailable("the engine is away")
    async def laboratory(self, language): raise EngineUnavailable("the engine is away")
    dependencies = FakeDependencies()
    async def attend(self, pools): await asyncio.Event().wait()
    async def close(self):
        if "linger" in sys.argv: await asyncio.Event().wait()

sys.exit(run_server(Backend))
"""


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Start]:
    """Start the server as a process of its own, in an empty directory."""
    started = []

    def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
        (tmp_path / "settings.local.env").write_text("")
        one = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(SCRIPT), *arguments],
            cwd=tmp_path,
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                "PGEXEC_HOST": "127.0.0.1",
                "PGEXEC_PORT": "0",
                **environment,
            },
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(one)
        return one

    yield start
    for one in started:
        one.kill()
        one.communicate()


def until(one: Any, event: str) -> dict[str, Any]:
    for line in one.stderr or ():
        entry: dict[str, Any] = json.loads(line)
        if entry["event"] == event:
            return entry
    raise AssertionError(f"no {event}")


@pytest.mark.parametrize(
    ("name", "value"), [("PGEXEC_PORT", "http"), ("PGEXEC_LOG_FILE", "no/such/directory")]
)
def test_a_wrong_setting_ends_the_start_with_one_sentence(
    process: Start, name: str, value: Any
) -> None:
    one = process(**{name: value})
    _, err = one.communicate(timeout=60)
    assert one.returncode == 2
    assert err.startswith(f"pgexec: {name} is {value!r}")
    assert err.count("\n") == 1


def test_a_taken_port_ends_the_start_with_one_sentence(process: Start) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        one = process(PGEXEC_PORT=str(listener.getsockname()[1]))
        _, err = one.communicate(timeout=60)
    assert one.returncode == 1
    assert "is in use" in err.splitlines()[-1]
    assert "Traceback" not in err


def test_sigterm_ends_the_process_with_success_and_a_log(process: Start, tmp_path: Path) -> None:
    one = process()
    until(one, "listening")
    one.send_signal(signal.SIGTERM)
    assert one.wait(timeout=60) == 0
    lines = [json.loads(line) for line in (tmp_path / "logs.txt").read_text().splitlines()]
    assert lines[0]["event"] == "listening"
    assert lines[0]["page"] == f"http://127.0.0.1:{lines[0]['port']}/"
    assert lines[-1]["event"] == "stopped"


@pytest.mark.slow
def test_a_second_signal_ends_the_process_at_once(process: Start) -> None:
    one = process("linger")
    until(one, "listening")
    one.send_signal(signal.SIGTERM)
    until(one, "draining")
    while one.poll() is None:  # until it is no echo of the first
        one.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            one.wait(timeout=0.1)
    assert one.returncode == 128 + signal.SIGTERM


def test_a_signal_that_comes_twice_at_once_is_one(process: Start) -> None:
    one = process()
    until(one, "listening")
    one.send_signal(signal.SIGTERM)
    one.send_signal(signal.SIGINT)
    assert one.wait(timeout=60) == 0


def test_unknown_names_and_a_public_address_are_warned_of(process: Start) -> None:
    one = process(PGEXEC_HOST="0.0.0.0", PGEXEC_POTR="1")
    assert until(one, "listening")["host"] == "0.0.0.0"
    one.send_signal(signal.SIGTERM)
    one.wait(timeout=60)
    assert one.stderr is not None
    log = one.stderr.read()
    assert "PGEXEC_API_KEYS" in log
