"""A warm and a plain container of each image, which the whole session shares."""

from __future__ import annotations

import contextlib
import uuid
from typing import TYPE_CHECKING

import pytest_asyncio

from pool.container import Container
from pool.engine.address import find_engine
from pool.engine.docker import DockerEngine
from pool.engine.spec import LABEL, ContainerSpec, create_document
from tests.conftest import PREIMPORT
from tests.differential.plain import PlainInterpreter
from tests.differential.twins import Twins

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pool.engine.image import Image


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def twins(image: Image) -> AsyncIterator[Twins]:
    """Run what is given in a warm container, recycled each time, and in a plain interpreter."""
    engine = DockerEngine(find_engine(""), streams=4)
    labels = {LABEL: uuid.uuid4().hex}
    spec = ContainerSpec(image.name, image.prepared, preimport=PREIMPORT, max_uses=5_000)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(engine.close)
        warm = await Container.start(engine, create_document(spec, labels=labels, sequence=0))
        stack.push_async_callback(warm.destroy)
        plain = await PlainInterpreter.start(engine, spec, labels)
        stack.push_async_callback(plain.destroy)
        yield Twins(warm, plain)
