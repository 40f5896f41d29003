"""What set-up finds out about the machine, without changing it."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest

from deploy.setup import index_addresses

if TYPE_CHECKING:
    from collections.abc import Sequence


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
