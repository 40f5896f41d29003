"""The seam to the engine, as far as it needs no engine: addresses and last words."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from deploy.setup import engine_api
from pgexec.settings import SettingsError, load_settings
from pool.docker_engine import AttachedStream, DockerEngine, _sockets, find_engine
from pool.errors import ContainerLost

if TYPE_CHECKING:
    from pathlib import Path


def test_a_socket_where_nobody_listens_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    paths = [str(tmp_path / "dead"), str(tmp_path / "alive")]
    monkeypatch.setattr("pool.docker_engine._sockets", lambda: paths)
    with socket.socket(socket.AF_UNIX) as dead, socket.socket(socket.AF_UNIX) as alive:
        dead.bind(paths[0])
        assert find_engine("") == f"unix://{paths[0]}"
        alive.bind(paths[1])
        alive.listen()
        assert find_engine("") == f"unix://{paths[1]}"


def test_server_and_set_up_look_in_the_same_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setattr("pathlib.Path.exists", lambda _: True)
    assert engine_api.addresses() == [f"unix://{path}" for path in _sockets()]


def test_an_address_that_cannot_be_used_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "ssh://somewhere")
    with pytest.raises(SettingsError, match=r"^DOCKER_HOST is 'ssh://somewhere', but must be "):
        load_settings()


async def test_https_without_certificates_is_an_os_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DOCKER_CERT_PATH", str(tmp_path))
    with pytest.raises(OSError, match="No such file"):
        DockerEngine("https://127.0.0.1:2376", streams=1)


async def test_only_the_last_line_of_a_traceback_reaches_clients() -> None:
    said = [SimpleNamespace(stream=2, data=b"Traceback:\n  File x\nOSError: no\n"), None]

    async def read_out() -> Any:
        return said.pop(0)

    stream: Any = SimpleNamespace(read_out=read_out)
    with pytest.raises(ContainerLost) as caught:
        await AttachedStream(stream).read()
    assert str(caught.value) == "the container ended: OSError: no"
