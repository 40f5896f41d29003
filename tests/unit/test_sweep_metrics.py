"""The sweep tells of what it finds, and of nothing else."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pgexec.backend.docker import DockerBackend
from pgexec.settings import Settings
from pool.engine.api import EngineObserver, Leak, Owned
from pool.engine.ownership import labels
from pool.engine.spec import LABEL
from pool.observer import LayerObserver

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest


class Leaks(EngineObserver):
    def __init__(self) -> None:
        self.seen: list[Leak] = []

    def leaked(self, leak: Leak) -> None:
        self.seen.append(leak)


async def test_a_leak_is_told_by_its_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = DockerBackend(Settings.of(docker_host="unix:///nowhere/docker.sock"))
    backend.observe(observer := Leaks(), LayerObserver())
    removed: list[str] = []
    now, mine = time.time(), backend._instance
    fresh, old = now + backend._sweeper._lifetime_s, now + backend._sweeper._lifetime_s / 2
    containers = [
        Owned("expired", labels("another/server", now - 1), up=True),
        Owned("never up", labels(mine, old), up=False),
        Owned("coming up", labels(mine, fresh), up=False),
        Owned("in use", labels(mine, fresh), up=True),
        Owned("another's", labels("another/server", fresh), up=True),
    ]

    async def owned(label: str) -> Sequence[Owned]:
        assert label == LABEL
        return containers

    async def remove(container_id: str) -> None:
        removed.append(container_id)

    monkeypatch.setattr(backend._engine, "owned", owned)
    monkeypatch.setattr(backend._engine, "remove", remove)
    await backend._sweeper.sweep()
    await backend._engine.close()
    assert removed == ["expired", "never up"]
    assert observer.seen == [Leak.LEFT_OVER, Leak.NEVER_CAME_UP]
