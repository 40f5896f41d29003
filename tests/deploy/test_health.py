"""The image's health check finds the server where its settings have it listen."""

from __future__ import annotations

import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING

import pytest

from tests.conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SCRIPT = ROOT / "deploy/docker/healthy.py"


class Lives(BaseHTTPRequestHandler):
    """Answers as a server that lives, or does not."""

    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/healthz" else 404)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of its base
        pass


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    """Start a server that has one address only, as with PGEXEC_HOST=192.0.2.1."""
    with HTTPServer(("127.0.0.2", 0), Lives) as server:
        threading.Thread(target=server.serve_forever).start()
        yield server
        server.shutdown()


def check(directory: Path, **environment: object) -> int:
    done = subprocess.run(
        [sys.executable, SCRIPT],
        cwd=directory,
        env={name: str(one) for name, one in environment.items()},
        stderr=subprocess.DEVNULL,
        check=False,
    )
    return done.returncode


def test_it_asks_the_address_and_the_port_of_the_settings(
    server: HTTPServer, tmp_path: Path
) -> None:
    port = server.server_port
    assert check(tmp_path, PGEXEC_HOST="127.0.0.2", PGEXEC_PORT=port) == 0
    assert check(tmp_path, PGEXEC_PORT=port) == 1
    (tmp_path / "settings.local.env").write_text(
        f"# PGEXEC_PORT=1\nPGEXEC_PORT={port}\nPGEXEC_HOST = '127.0.0.2'  # one of many\n"
    )
    assert check(tmp_path) == 0
    assert check(tmp_path, http_proxy="http://127.0.0.1:1") == 0
    # The environment wins, as it does for the server.
    assert check(tmp_path, PGEXEC_HOST="127.0.0.3") == 1


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::"])
def test_a_server_on_all_addresses_is_asked_at_the_loopback_one(host: str, tmp_path: Path) -> None:
    with HTTPServer(("127.0.0.1", 0), Lives) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        assert check(tmp_path, PGEXEC_HOST=host, PGEXEC_PORT=server.server_port) == 0
        server.shutdown()
        thread.join()


def test_a_server_that_answers_badly_or_not_at_all_is_not_well(
    server: HTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Lives, "status", 500)
    assert check(tmp_path, PGEXEC_HOST="127.0.0.2", PGEXEC_PORT=server.server_port) == 1
    assert check(tmp_path, PGEXEC_HOST="127.0.0.2", PGEXEC_PORT=1) == 1
