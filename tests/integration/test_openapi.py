"""schemathesis makes up requests from the published document, and holds the answers against it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.conftest import LOCAL
from tests.integration.server import running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.server import Server

ROOT = Path(__file__).parent.parent.parent
# Without a network, no dependency can be installed.
CONFIG = '[checks]\npositive_data_acceptance.expected-statuses = ["2xx", "422"]\n'


@pytest.fixture(scope="module")
def keyed(first_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Share a server that asks for a key."""
    settings = {"API_KEYS": "alice:one", "METRICS_OPEN": "false", "RUN_TIMEOUT_S": "5"}
    directory = tmp_path_factory.mktemp("server")
    with running(directory, {"IMAGE": first_image, **LOCAL, **settings}) as server:
        yield server


@pytest.mark.parametrize("accept", ["*/*", "text/event-stream"])
def test_whatever_the_document_allows_or_forbids_is_answered_as_it_says(
    keyed: Server, tmp_path: Path, accept: str
) -> None:
    config = tmp_path / "schemathesis.toml"
    config.write_text(CONFIG)
    command = [
        *(str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(config)),
        *("run", f"http://127.0.0.1:{keyed.port}/openapi.json"),
        *("--header", "Authorization: Bearer one", "--header", f"Accept: {accept}"),
        # A made-up session is not there, or has ended: that answers by neither yes nor no.
        *("--exclude-path-regex", "^/sessions"),
        *("--phases", "examples,coverage,fuzzing", "--max-examples", "50"),
        *("--generation-deterministic", "--continue-on-failure", "--no-color"),
    ]
    environment = {
        **os.environ,
        "SCHEMATHESIS_HOOKS": "tests.integration.fuzz_hooks",
        "PYTHONPATH": str(ROOT),
    }
    tried = subprocess.run(
        command,
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert tried.returncode == 0, tried.stdout + tried.stderr
    assert "6 selected / 11 total" in tried.stdout  # all but the document itself and sessions
