"""See what an engine's very first start leaves out, by tests on an engine that never ran.

A machine whose engine has started once before hides it: Docker 20.10, for one, tells the gateway
of its default network from the second start of a data root on.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pool.engine.address import find_engine
from tests.private_engine import PrivateEngine, unusable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HERE = Path(__file__).parent
# No image is prepared, no network and no volume is there when the first of them begins.
TESTS = (
    "test_doctor.py::test_nothing_fails_here",
    "test_layers.py::test_concurrent_first_requests_install_once",
    "test_profiles.py::test_what_a_run_asks_for_fits_the_versions_of_its_profile",
)
WITHIN_S = 240


@pytest.fixture
async def new_engine(
    tmp_path_factory: pytest.TempPathFactory, first_image: str
) -> AsyncIterator[PrivateEngine]:
    """Start an engine on a data root that it makes, and give it one image."""
    if reason := unusable():
        pytest.skip(reason)
    engine = PrivateEngine(tmp_path_factory.mktemp("engine") / "own")
    try:
        engine.create()
        engine.start()
        await engine.answers()
        await engine.copy_image(find_engine("").removeprefix("unix://"), first_image)
        yield engine
    finally:
        engine.close()


async def test_an_engine_that_never_ran_before_will_do(
    new_engine: PrivateEngine, first_image: str, tmp_path: Path
) -> None:
    """Tests and servers are where the engine is: its network, in which it is the machine."""
    pytest_of_its_own = new_engine.inside(
        *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
        f"--basetemp={tmp_path / 'inside'}",
        *(str(HERE / one) for one in TESTS),
    )
    done = await asyncio.to_thread(
        subprocess.run,
        pytest_of_its_own,
        cwd=HERE.parent.parent,
        env={
            **os.environ,
            "DOCKER_HOST": f"unix://{new_engine.socket}",
            "PGEXEC_TEST_IMAGES": first_image,
        },
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=WITHIN_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert f"{len(TESTS)} passed" in done.stdout, done.stdout
