"""The prepared image of a test image, for engines of our own, which need not make it anew then."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pool.engine.address import find_engine
from pool.engine.docker import DockerEngine
from pool.engine.image import prepare
from tests.conftest import available_images

if TYPE_CHECKING:
    from pgexec.settings import Settings


async def prepared(settings: Settings, ca_bundle: str = "") -> str:
    """Return the name of what a server with these settings would make of the first test image.

    The engine that all share makes it, if need be. Another that gets both images finds it.
    `ca_bundle` is the text that the server would put into it.
    """
    engine = DockerEngine(find_engine(""), streams=1)
    try:
        directories = (settings.root_dir,)
        image = available_images()[0]
        made = await prepare(engine, image, directories=directories, ca_bundle=ca_bundle)
    finally:
        await engine.close()
    return made.name
