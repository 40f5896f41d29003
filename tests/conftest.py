"""What every test against a real engine shares: the images, the engine, containers."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pool.container import Container
from pool.engine.address import find_engine
from pool.engine.docker import DockerEngine
from pool.engine.image import Image, prepare
from pool.engine.spec import LABEL, ContainerSpec, create_document

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Generator

    StartContainer = Callable[..., Awaitable[Container]]

ROOT = Path(__file__).parent.parent
IMAGES = ("python:alpine", "pgexec-python:debian")
NEWEST = "pgexec-python:newest"
"""The newest CPython of Debian's suites: what is compared with the interpreter is so there, too."""
PREIMPORT = ("collections", "datetime", "functools", "itertools", "json", "math", "random", "re")


def available_images(names: tuple[str, ...] = IMAGES) -> list[str]:
    """Return the test images that the engine has: `make test` sees to it that one is there."""
    if named := os.environ.get("PGEXEC_TEST_IMAGES"):
        return named.split(",")
    has = [sys.executable, str(ROOT / "deploy/setup/engine_api.py"), "has"]
    return [name for name in names if subprocess.run([*has, name], check=False).returncode == 0]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what asks for `image` against every image, and fail where there is none at all."""
    if "image" in metafunc.fixturenames:
        compares = "differential" in metafunc.definition.path.parts
        images = available_images((*IMAGES, NEWEST) if compares else IMAGES)
        assert images, "no test image: run make setup"
        metafunc.parametrize("image", images, indirect=True, scope="session")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep reports encodable: workers send them as UTF-8, and tests log lone surrogates."""
    report = yield
    report.sections = [
        (name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections
    ]
    return report


@pytest.fixture(scope="session")
def image(request: pytest.FixtureRequest) -> Image:
    """Give the prepared form of one test image."""

    async def make() -> Image:
        engine = DockerEngine(find_engine(""), streams=1)
        try:
            return await prepare(engine, request.param, directories=("/home/code",))
        finally:
            await engine.close()

    return asyncio.run(make())


@pytest.fixture
async def engine() -> AsyncIterator[DockerEngine]:
    """Connect to the real engine."""
    engine = DockerEngine(find_engine(""), streams=64)
    yield engine
    await engine.close()


@pytest.fixture
async def start_container(engine: DockerEngine, image: Image) -> AsyncIterator[StartContainer]:
    """Start containers from a spec changed by keyword; none outlives the test."""
    owner = uuid.uuid4().hex
    started: list[Container] = []

    async def start(*, sequence: int = 0, **changes: object) -> Container:
        changes = {"preimport": PREIMPORT, **changes}
        spec = ContainerSpec(image.name, image.prepared, **changes)  # type: ignore[arg-type]
        document = create_document(spec, labels={LABEL: owner}, sequence=sequence)
        container = await Container.start(engine, document)
        started.append(container)
        return container

    yield start
    for container in started:
        await container.destroy()
    async with asyncio.timeout(10):
        while await engine.owned(f"{LABEL}={owner}"):
            await asyncio.sleep(0.05)
