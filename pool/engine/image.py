"""Derive the prepared image: the configured image with compiled bytecode and the runner.

The official Python images have no bytecode, and a container cannot write it on its read-only
root. So every start and every import would compile the sources again (docs/adr/0003).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pool.engine.sources import runner_files, source
from pool.engine.spec import CA_BUNDLE, LAYERS_DIR, RUNNER_DIR, preparer_document
from pool.errors import EngineError, ImageMissing
from pool.language import PYTHON

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from pool.engine.docker import DockerEngine

logger = logging.getLogger(__name__)

REPOSITORY = "pgexec-prepared"
LABEL_BASE = "pgexec.base"
LABEL_PURPOSE = "pgexec.purpose"
LABEL_BUILD = "pgexec.build"
PREPARE_TIMEOUT_S = 600.0
UPDATE_S = 24 * 3600.0
"""So long may servers of two versions share an engine without removing each other's image."""


@dataclass(frozen=True, slots=True)
class Image:
    """An image for containers. If it is `prepared`, the runner is inside; else it is the base."""

    name: str
    prepared: bool
    base_id: str


async def prepare(
    engine: DockerEngine, base: str, *, directories: tuple[str, ...], ca_bundle: str = ""
) -> Image:
    """Return the prepared image for `base`; make it first if it does not exist yet.

    `directories` are mount points to create. `ca_bundle` is the text of CA certificates to put
    at `spec.CA_BUNDLE`. Raises `ImageMissing` if the base is missing and cannot be pulled, or is
    for other processors than the engine's, `EngineUnavailable` if no engine answers. If the engine
    cannot derive an image, it logs a warning and returns the base itself.
    """
    base_id = await _base_id(engine, base)
    files = runner_files() | ({CA_BUNDLE: ca_bundle} if ca_bundle else {})
    made_of = [base_id, directories, files]
    tag = hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:24]
    name = f"{REPOSITORY}:{tag}"
    if await engine.image_id(name):
        return Image(name, prepared=True, base_id=base_id)
    if sentence := await engine.foreign(base):
        # Emulated, it would start, and fail at some call that the emulation lacks.
        raise ImageMissing(sentence)
    logger.info("preparing an image from %s (once; 10 to 60 s)", base)
    work = {"files": files, "directories": [*directories, LAYERS_DIR], "runner": RUNNER_DIR}
    # Only images with this `purpose` are removed: servers with other settings may use others.
    purpose = hashlib.sha256(json.dumps([base, directories, ca_bundle]).encode()).hexdigest()[:24]
    labels = {LABEL_BASE: base, LABEL_PURPOSE: purpose, LABEL_BUILD: ""}
    try:
        async with asyncio.timeout(PREPARE_TIMEOUT_S):
            await _derive(engine, base, tag, work, labels)
    except (EngineError, TimeoutError) as error:
        logger.warning(
            "cannot prepare an image (%s): %s serves as it is; containers start at half the "
            "speed, imports run at an eighth, and no CA bundle reaches them",
            str(error) or "it took too long",
            base,
        )
        return Image(base, prepared=False, base_id=base_id)
    try:
        # A server of the version before may share the engine, without a container at this moment.
        replaced_before = time.time() - UPDATE_S
        label = f"{LABEL_PURPOSE}={purpose}"
        await engine.remove_images(label, keep=name, replaced_before=replaced_before)
    except EngineError as error:  # the old image takes disk space, but does no other harm
        logger.warning("cannot remove what %s replaces: %s", name, error)
    logger.info("prepared %s", name)
    return Image(name, prepared=True, base_id=base_id)


async def _base_id(engine: DockerEngine, base: str) -> str:
    if found := await engine.image_id(base):
        return found
    logger.info("pulling %s", base)
    async for line in engine.pull(base):
        logger.info("pulling %s: %s", base, line)
    if found := await engine.image_id(base):
        return found
    raise ImageMissing(f"image {base} is neither present nor to be pulled")


async def _derive(
    engine: DockerEngine, base: str, tag: str, work: Mapping[str, object], labels: dict[str, str]
) -> None:
    command = PYTHON.run_text(source("prepare"))
    document = preparer_document(base, command=command, labels={LABEL_BUILD: base})
    container_id, stream = await engine.start(document)
    try:
        await stream.write(json.dumps(work).encode() + b"\n")
        last = ""
        async for last in _lines(stream.read):
            if last == "done":
                break
            logger.info("preparing %s: %s", base, last)
        if last != "done":
            raise EngineError(
                f"{PYTHON.interpreter} in {base} failed: {last or 'it printed nothing'}"
            )
        await engine.commit(container_id, REPOSITORY, tag, labels=labels)
    finally:
        await stream.close()
        await asyncio.shield(asyncio.ensure_future(engine.remove(container_id)))


async def _lines(read: Callable[[], Awaitable[bytes]]) -> AsyncIterator[str]:
    rest = b""
    while data := await read():
        *lines, rest = re.split(rb"\r?\n", rest + data)
        for line in lines:
            yield line.decode("utf-8", "replace")
    if rest:
        yield rest.decode("utf-8", "replace")
