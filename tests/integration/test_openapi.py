"""schemathesis makes up requests from the published document, and holds the answers against it."""

from __future__ import annotations

import asyncio
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

KEY = {"Authorization": "Bearer one"}
ROOT = Path(__file__).parent.parent.parent
# Without a network, no dependency can be installed. A session may have ended, or be one too many.
CONFIG = """
[checks]
positive_data_acceptance.expected-statuses = ["2xx", "422"]

[[operations]]
include-path-regex = "^/sessions"
checks.not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", "503"]
checks.positive_data_acceptance.expected-statuses = ["2xx", "404", "410", "422", "503"]
"""


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
    told = fuzz(keyed, tmp_path, accept, "--exclude-path-regex", "^/sessions")
    assert "6 selected / 11 total" in told  # all but the document itself and sessions


async def test_so_are_sessions_and_their_cells(keyed: Server, tmp_path: Path) -> None:
    opened = await keyed.request("POST", "/sessions", json={}, headers=KEY)
    own = {"PGEXEC_TEST_SESSION": opened.json["id"]}
    asked = (keyed, tmp_path, "*/*", "--include-path-regex", "^/sessions")
    told = await asyncio.to_thread(fuzz, *asked, **own)
    assert "5 selected / 11 total" in told
    ran = await keyed.request(
        "POST", f"{opened.headers['Location']}/run", json={"code": "6 * 7"}, headers=KEY
    )
    assert (ran.status, ran.json.get("value")) == (200, "42"), ran.body
    for one in (await keyed.request("GET", "/sessions", headers=KEY)).json["sessions"]:
        await keyed.request("DELETE", f"/sessions/{one['id']}", headers=KEY)


def fuzz(server: Server, tmp_path: Path, accept: str, *paths: str, **more: str) -> str:
    """Let schemathesis loose on some paths; return what it tells. It must find nothing."""
    config = tmp_path / "schemathesis.toml"
    config.write_text(CONFIG)
    command = [
        *(str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(config)),
        *("run", f"http://127.0.0.1:{server.port}/openapi.json", *paths),
        *("--header", "Authorization: Bearer one", "--header", f"Accept: {accept}"),
        *("--phases", "examples,coverage,fuzzing", "--max-examples", "50"),
        *("--generation-deterministic", "--continue-on-failure", "--no-color"),
    ]
    environment = {
        **os.environ,
        **more,
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
    return tried.stdout
