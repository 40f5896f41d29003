"""One sandbox for all tests of a module and image: starting a container each would take long."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest_asyncio

from tests.abuse.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pool.engine.image import Image


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sandbox(image: Image) -> AsyncIterator[Sandbox]:
    """Share a container between the tests of a module while its resets are clean."""
    sandbox = Sandbox(image)
    yield sandbox
    await sandbox.close()
