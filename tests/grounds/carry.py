"""Print the image that a server of these settings would use, and its base, as `docker save` does.

An emulated machine loads it, and need not compile for ten minutes what is compiled here in one.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
from urllib.parse import urlencode

from deploy.setup import engine_api
from pgexec.backend.spec import prepare_spec
from pgexec.settings import load_settings
from pool.engine.docker import DockerEngine


async def images() -> tuple[str, str]:
    """Return the names of the base and of the image that is prepared from it."""
    settings, _ = load_settings()
    engine = DockerEngine(engine_api.find_engine(), streams=2)
    try:
        spec = await prepare_spec(engine, settings)
    finally:
        await engine.close()
    return settings.image, spec.image


def main() -> None:
    """Write the images to stdout."""
    names = [("names", name) for name in asyncio.run(images())]
    connection = engine_api.connect(engine_api.find_engine(), engine_api.STALL_TIMEOUT_S)
    connection.request("GET", f"/images/get?{urlencode(names)}")
    shutil.copyfileobj(connection.getresponse(), sys.stdout.buffer)


if __name__ == "__main__":
    main()
