"""See that the test images hold what wheels expect of the official ones."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import ROOT, available_images
from tests.integration.server import EngineClient

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
