"""The volume and the program that serves it, on a directory and without a container."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from typing import TYPE_CHECKING, Any

import pytest

from pool.dependencies.archive import record
from pool.dependencies.volume import Volume
from pool.engine.spec import LAYERS_DIR, ContainerSpec
from pool.errors import ContainerLost
from pool.inside.layer_format import Entry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

SPEC = ContainerSpec("image", prepared=True)
LAYER = record(Entry.FILE, "a.py", size=1) + b"x" + record(Entry.END, "")
DIES = """
import os, sys
real = os.listdir
def listdir(path):
    if isinstance(path, bytes) and b"deadly" in path and b"unfinished" not in path:
        os.kill(os.getpid(), 9)
    return real(path)
os.listdir = listdir
"""
SLOW = """
import os, time
real = os.listdir
def listdir(path):
    if isinstance(path, bytes):
        time.sleep(0.3)
    return real(path)
os.listdir = listdir
"""


class ProcessStream:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def read(self) -> bytes:
        assert self.process.stdout is not None
        return await self.process.stdout.read(1 << 16)

    async def write(self, data: bytes | memoryview) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        with contextlib.suppress(ConnectionError):
            await self.process.stdin.drain()

    async def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()


class ProcessEngine:
    """Runs a container's command as a process, with a directory in the volume's place."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.before = ""
        self.started: list[asyncio.subprocess.Process] = []

    async def start(self, document: Mapping[str, Any]) -> tuple[str, ProcessStream]:
        at = document["Cmd"].index("-c")
        code, *arguments = document["Cmd"][at + 1 :]
        arguments = [str(self.root) if one == LAYERS_DIR else one for one in arguments]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-IS", "-c", self.before + code, *arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        self.started.append(process)
        return str(len(self.started) - 1), ProcessStream(process)

    async def remove(self, container_id: str) -> None:
        process = self.started[int(container_id)]
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()

    async def ran_out_of_memory(self, container_id: str, since: float) -> bool:
        return False

    def volume(self, owner: str = "me") -> Volume:
        return Volume(self, "volume", owner, dict)


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[ProcessEngine]:
    engine = ProcessEngine(tmp_path)
    yield engine
    for number in range(len(engine.started)):
        await engine.remove(str(number))


async def publish(volume: Volume, *names: str) -> None:
    for name in names:
        about = {"key": name, "used_at": 1.0, "requirements": [name]}
        async with volume.publishing(name, about) as publication:
            await publication.write(LAYER)


async def names(volume: Volume) -> list[object]:
    return [about["name"] for about in await volume.load(SPEC)]


async def test_what_is_published_is_found_by_the_next_server(engine: ProcessEngine) -> None:
    first = engine.volume()
    assert await names(first) == []
    await publish(first, "one", "two")
    await first.close()
    second = engine.volume("you")
    assert await names(second) == ["one", "two"]
    assert await second.check("one")


async def test_a_container_that_starts_too_slowly_is_said_with_the_setting(
    engine: ProcessEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(document: Mapping[str, Any]) -> tuple[str, ProcessStream]:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(engine, "start", hang)
    volume = Volume(engine, "volume", "me", dict, start_timeout_s=0.02)
    with pytest.raises(ContainerLost, match=r"in 0\.02 s; PGEXEC_START_TIMEOUT_S"):
        await volume.load(SPEC)


async def test_a_layer_that_kills_its_server_is_dropped_by_name_and_the_others_stay(
    engine: ProcessEngine,
) -> None:
    volume = engine.volume()
    await volume.load(SPEC)
    await publish(volume, "fine", "deadly", "other")
    engine.before = DIES
    assert await names(volume) == ["fine", "other"]
    assert not (engine.root / "deadly").exists()
    assert len(engine.started) == 3


async def test_a_layer_that_kills_its_server_in_a_check_is_not_read_at_the_next_start(
    engine: ProcessEngine,
) -> None:
    volume = engine.volume()
    engine.before = DIES
    await volume.load(SPEC)
    await publish(volume, "fine", "deadly")
    with pytest.raises(ContainerLost):
        await volume.check("deadly")
    assert await names(volume) == ["fine"]
    assert len(engine.started) == 2


async def test_a_layer_that_a_dead_server_was_killed_over_is_not_taken_over(
    engine: ProcessEngine,
) -> None:
    volume = engine.volume()
    engine.before = DIES
    await volume.load(SPEC)
    await publish(volume, "fine", "deadly")
    with pytest.raises(ContainerLost):
        await volume.check("deadly")
    assert await names(engine.volume("heir")) == ["fine"]


@pytest.mark.slow
async def test_who_stops_waiting_for_a_check_costs_nobody_the_layer(engine: ProcessEngine) -> None:
    volume = engine.volume()
    engine.before = SLOW
    await volume.load(SPEC)
    await publish(volume, "one")
    checking = asyncio.create_task(volume.check("one"))
    await asyncio.sleep(0.1)
    checking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await checking
    assert volume.is_running()
    assert await volume.check("one")
    await volume.close()
    assert await names(volume) == ["one"]


async def test_a_volume_that_is_still_read_does_not_count_as_open(engine: ProcessEngine) -> None:
    volume = engine.volume()
    await volume.load(SPEC)
    await publish(volume, "one")
    engine.before = SLOW
    loading = asyncio.create_task(volume.load(SPEC))
    while len(engine.started) < 2:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    assert not volume.is_running()
    await loading
    assert volume.is_running()


async def test_what_is_known_of_a_layer_must_not_grow_beyond_its_bound(
    engine: ProcessEngine,
) -> None:
    volume = engine.volume()
    await volume.load(SPEC)
    await publish(volume, "one", "two")
    (home,) = (engine.root / ".owners").iterdir()
    about = json.loads((home / "one.json").read_text())
    (home / "one.json").write_text(json.dumps({**about, "more": "x" * (1 << 20)}))
    os.truncate(home / "two.entries", 1 << 30)
    assert await names(volume) == []
    assert not (engine.root / "one").exists()
