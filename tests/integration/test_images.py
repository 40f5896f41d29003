"""See that the test images hold what wheels expect of the official ones."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from pool.engine import image, sources
from tests.conftest import ROOT, available_images
from tests.integration.server import EngineClient

if TYPE_CHECKING:
    from pathlib import Path

    from pool.engine.docker import DockerEngine

STAND_IN = "pgexec-python:debian"


@pytest.mark.parametrize("library", ["libstdc++.so.6", "libgomp.so.1"])
async def test_the_stand_in_has_the_libraries_that_wheels_do_not_bring(library: str) -> None:
    """Without the first, numpy installs and cannot be imported; without the other, LightGBM."""
    if STAND_IN not in available_images():
        pytest.skip(f"{STAND_IN} is not there: make test builds it for root on Debian and Ubuntu")
    load = ["python3", "-c", f"import ctypes; ctypes.CDLL({library!r})"]
    assert await EngineClient().exit_code(STAND_IN, load) == 0


@pytest.mark.parametrize(("label", "status"), [([], 0), (["pgexec.stand-in=of other packages"], 1)])
def test_an_image_made_of_other_packages_is_not_the_one_that_is_wanted(
    first_image: str, label: list[str], status: int
) -> None:
    """By its label, `make test` builds the stand-in of an earlier version anew."""
    has = [sys.executable, str(ROOT / "deploy/setup/engine_api.py"), "has", first_image, *label]
    assert subprocess.run(has, check=False).returncode == status


async def test_servers_of_two_versions_leave_each_other_their_prepared_images(
    engine: DockerEngine, first_image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither has a container at this moment, which would protect its image."""
    room = tmp_path / "inside"
    shutil.copytree(str(sources._ROOM), room, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(sources, "_ROOM", room)
    made: list[str] = []

    async def update() -> list[bool]:
        with (room / "start.py").open("a") as text:
            text.write("\n")
        # A directory that no other image has: those of other servers are nobody's business.
        prepared = await image.prepare(engine, first_image, directories=(str(tmp_path),))
        made.append(prepared.name)
        return [bool(await engine.image_id(name)) for name in made]

    try:
        assert await update() == [True]
        assert await update() == [True, True]
        monkeypatch.setattr(image, "UPDATE_S", -60.0)  # as if all that were long ago
        assert await update() == [False, False, True]
    finally:
        for name in made:
            await EngineClient().call("DELETE", f"/images/{name}")
