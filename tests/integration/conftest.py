"""Servers for the tests: one that many share, and one of a test's own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.conftest import available_images
from tests.integration.server import EngineClient, Server, running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from tests.integration.server import StartServer

SMALL = {
    "POOL_MIN_IDLE": "2",
    "POOL_MAX_CONTAINERS": "4",
    "DRAIN_TIMEOUT_S": "30",
    "CANARY_INTERVAL_S": "0",  # whose container would be one more than a test expects
}
LOCAL = {**SMALL, "NETWORK": "none"}
"""For most tests: Docker 20.10 may lock up when many containers leave a network (moby 46661)."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what asks for `each_server` against every test image."""
    if "base_image" in metafunc.fixturenames:
        metafunc.parametrize("base_image", available_images(), scope="session")


@pytest.fixture(scope="session")
def each_server(base_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Share a server with the defaults and a small pool among all tests of one image."""
    with running(tmp_path_factory.mktemp("server"), {"IMAGE": base_image, **SMALL}) as server:
        yield server


@pytest.fixture(scope="session")
def first_image() -> str:
    """Name the image for what does not depend on the image."""
    images = available_images()
    assert images, "no test image: run make setup"
    return images[0]


@pytest.fixture(scope="session")
def server(first_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Share a server as `each_server` does, on the first image only."""
    with running(tmp_path_factory.mktemp("server"), {"IMAGE": first_image, **LOCAL}) as server:
        yield server


@pytest.fixture
async def start(tmp_path: Path, first_image: str) -> AsyncIterator[StartServer]:
    """Start servers with settings of their own; none leaves a container behind."""
    servers: list[Server] = []

    async def start(*, ready: bool = True, listening: bool = True, **settings: object) -> Server:
        values = {name: str(value) for name, value in settings.items()}
        server = Server(
            tmp_path / f"server{len(servers)}", {"IMAGE": first_image, **LOCAL, **values}
        )
        servers.append(server)
        server.start()
        if listening or ready:
            await server.listening()
        if ready:
            await server.ready()
        return server

    yield start
    results = await asyncio.gather(*(one.stop() for one in servers), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result


@pytest.fixture
def engine_client() -> EngineClient:
    """Talk to the engine, for what only the engine can tell."""
    return EngineClient()
