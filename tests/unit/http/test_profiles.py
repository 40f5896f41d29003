"""Several languages in one server: which pool a run goes to, and what is told of each."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

import pytest
from aiohttp import ClientSession

from pgexec.app import serve
from pool.errors import PreimportRefused
from pool.manager import NO_LEASES
from tests.unit.http.test_app import App, FakeBackend, free_port, settings_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pool.container import Container

REASON = "numpy cannot be pre-imported: it leaves a thread running"
PROFILES = {"python-data": {"min_idle": 2, "max_containers": 2}}


class Backend(FakeBackend):
    """Starts containers that are known by their language, unless that is refused."""

    def __init__(self) -> None:
        super().__init__()
        self.refused = False
        self.languages: dict[str, str] = {}

    async def launch(self, number: int, language: str) -> Container:
        if self.refused and language == "python-data":
            raise PreimportRefused(REASON)
        container = await super().launch(number, language)
        self.languages[container.id] = language
        return container


@pytest.fixture
async def app() -> AsyncIterator[App]:
    port, backend = free_port(), Backend()
    settings = settings_of(port, profiles=PROFILES)
    task = asyncio.create_task(serve(settings, backend, lambda: None))
    await backend.attending.wait()
    async with ClientSession() as session:
        yield App(port, backend, task, session)
        if not task.done():
            os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(20):
            await task
    assert not backend.engine.containers


@pytest.fixture
def backend(app: App) -> Backend:
    assert isinstance(app.backend, Backend)
    return app.backend


async def until_leased(backend: Backend, language: str) -> None:
    async with asyncio.timeout(20):
        while not backend.pools[language].snapshot().leased:  # nobody tells
            await asyncio.sleep(0)


async def test_a_run_goes_to_the_pool_of_its_language(app: App, backend: Backend) -> None:
    await app.until_ready()
    assert sorted(backend.languages.values()) == ["python", "python-data", "python-data"]
    for language in ("python-data", "python"):
        run = asyncio.create_task(app.post(code="hang", language=language))
        await until_leased(backend, language)
        (busy,) = [name for name, one in backend.engine.containers.items() if one.busy]
        assert backend.languages[busy] == language
        backend.engine.containers[busy].finish()
        assert (await run)[0] == 200


async def test_an_unknown_language_is_refused_with_those_that_there_are(app: App) -> None:
    status, answer = await app.post(language="python-science")
    assert (status, answer["code"]) == (400, "unsupported_language")
    assert answer["error"].endswith("is not supported, only 'python', 'python-data'")


async def test_the_metrics_tell_the_pools_and_the_runs_apart(app: App) -> None:
    await app.until_ready()
    await app.post(language="python-data")
    async with app.session.get(app.url + "/metrics") as response:
        text = await response.text()
    assert 'pgexec_containers{profile="python",state="idle"} 1.0' in text
    assert 'pgexec_leases_total{profile="python-data",source="idle"} 1.0' in text
    assert 'pgexec_runs_total{profile="python-data",status="ok"} 1.0' in text


async def test_the_profile_that_is_not_ready_is_named_and_the_others_go_on() -> None:
    port, backend = free_port(), Backend()
    backend.refused = True
    settings = settings_of(port, profiles=PROFILES)
    task = asyncio.create_task(serve(settings, backend, lambda: None))
    await backend.attending.wait()
    async with ClientSession() as session:
        app = App(port, backend, task, session)
        sentence = f"python-data: containers fail to start: {REASON}"
        async with asyncio.timeout(20):
            while (answer := await app.get("/readyz"))[1].get("error") != sentence:
                await asyncio.sleep(0)
        assert answer[0] == 503
        assert (await app.post())[0] == 200
        os.kill(os.getpid(), signal.SIGTERM)
        await task


async def test_runs_of_every_language_end_before_the_server_does(
    app: App, backend: Backend
) -> None:
    await app.until_ready()
    languages = ("python", "python-data")
    runs = [asyncio.create_task(app.post(code="hang", language=one)) for one in languages]
    for language in languages:
        await until_leased(backend, language)
    os.kill(os.getpid(), signal.SIGTERM)
    async with asyncio.timeout(20):
        while not all(backend.pools[one].snapshot().unready == NO_LEASES for one in languages):
            await asyncio.sleep(0)
    for one in backend.engine.containers.values():
        if one.busy:
            one.finish()
    assert [status for status, _ in await asyncio.gather(*runs)] == [200, 200]
    await app.task
