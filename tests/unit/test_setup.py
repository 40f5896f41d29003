"""What set-up finds out about the machine, without changing it."""

from __future__ import annotations

import io
import re
import socket
import tarfile
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from deploy.setup import engine_api, index_addresses

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@pytest.mark.parametrize(
    ("resolved", "closed"),
    [
        (["151.101.0.223", "2a04:4e42::223"], []),
        (["10.1.2.3", "10.1.2.3", "151.101.0.223"], ["10.1.2.3"]),
        (["203.0.113.80", "fd00::1"], ["203.0.113.80", "fd00::1"]),
        (["127.0.0.1", "::1"], []),
        ([], []),
    ],
)
def test_only_addresses_of_the_index_that_the_guard_closes_are_let_through(
    monkeypatch: pytest.MonkeyPatch, resolved: Sequence[str], closed: list[str]
) -> None:
    def resolve(name: str, *_: Any, **__: Any) -> list[tuple[Any, ...]]:
        if not resolved:
            raise socket.gaierror
        return [(0, 0, 0, "", (address, 443)) for address in resolved]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    assert index_addresses.closed_addresses(["index.example", "files.example"]) == closed


def test_the_index_of_the_settings_comes_before_that_of_pip(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert len(index_addresses.hosts()) == 2
    monkeypatch.setenv("PGEXEC_DEPENDENCY_INDEX_URL", "https://user:key@mirror.example:8443/simple")
    assert index_addresses.hosts() == ["mirror.example"]


def root_tar(machine: int) -> bytes:
    """Return a root file system as a tar: a text, and a program for that `e_machine` of elf(5)."""
    made = io.BytesIO()
    program = b"\x7fELF\2\1\1" + bytes(9) + b"\2\0" + machine.to_bytes(2, "little")
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name, content in (("etc/motd", b"no \x7fELF" * 100), ("bin/sh", program)):
            about = tarfile.TarInfo(name)
            about.size = len(content)
            tar.addfile(about, io.BytesIO(content))
    return made.getvalue()


@pytest.fixture
def imported(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Stand for an engine on a 64-bit Arm machine; hold what was imported into it."""
    pieces: list[bytes] = []

    def create(_: object, upload: Iterable[bytes]) -> str:
        pieces.extend(upload)
        return "sha256:1"

    monkeypatch.setattr(engine_api, "create", create)
    monkeypatch.setattr(engine_api, "has", lambda _: True)
    monkeypatch.setattr(engine_api, "machine", lambda: "arm64")
    return pieces


@pytest.mark.parametrize("machine", [183, 40, 0xBEEF])
def test_a_root_for_the_engines_machine_or_an_unknown_one_is_imported_as_it_is(
    monkeypatch: pytest.MonkeyPatch, imported: list[bytes], machine: int
) -> None:
    tar = root_tar(machine) + bytes(3 << 20)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(tar)))
    engine_api.import_image("python:alpine", [])
    assert b"".join(imported) == tar


def test_a_root_for_other_processors_is_not_imported_and_what_to_pull_is_named(
    monkeypatch: pytest.MonkeyPatch, imported: list[bytes]
) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(root_tar(62))))
    sentence = (
        "what was to be python:alpine is for amd64, and the engine's machine is arm64: "
        "docker pull --platform linux/arm64 python:alpine"
    )
    with pytest.raises(engine_api.EngineError, match=f"^{re.escape(sentence)}$"):
        engine_api.import_image("python:alpine", [])
    assert imported == []
