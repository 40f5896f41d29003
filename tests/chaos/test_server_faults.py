"""What befalls the server's own process, for real, under load."""

from __future__ import annotations

import asyncio
import contextlib
import random
import resource
import signal
import time
from typing import TYPE_CHECKING

import pytest
from aiohttp import ClientError

from pool.engine.ownership import labels
from tests.chaos.bed import GONE_S, SESSIONS, count
from tests.chaos.clock import WallClock, unusable
from tests.chaos.load import Line, Load
from tests.chaos.sessions import SessionLoad
from tests.integration.server import GATE, until
from tests.integration.test_lifecycle import until_gone

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.chaos.bed import Bed
    from tests.chaos.conftest import MakeBed
    from tests.chaos.report import Row
    from tests.chaos.sessions import Held
    from tests.integration.server import Server

MOST_DESCRIPTORS = 40
BLOCKED_S = 2.5
HOUR_S = 3600
DAY_S = 24 * HOUR_S


@contextlib.asynccontextmanager
async def serving(bed: Bed, directory: Path, **settings: object) -> AsyncIterator[Server]:
    """Start a server of the test's own; what becomes of it is up to the test."""
    server = bed.make_server(directory, **settings)
    server.start()
    try:
        await server.listening()
        yield server
    finally:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait()


async def settle(row: Row, load: Load) -> None:
    """Count what came of a load that has ended, and see that all was as promised."""
    count(load, row)
    assert not load.problems, load.problems


async def test_sigkill_at_random_moments(bed: Bed, tmp_path: Path) -> None:
    """Each server removes at its start what its predecessor had created and not yet started."""
    row = bed.report.row("the server is killed, and another started")
    session_row = bed.report.row(row.fault + SESSIONS)
    chance = random.Random()
    last: Server | None = None
    gone: list[Held] = []
    for number in range(100 if bed.long else 6):
        async with serving(bed, tmp_path / str(number), SERVER_NAME="phoenix") as server:
            began = time.monotonic()
            if last is not None:
                await last.no_container_left(within_s=GONE_S)
            await server.ready()
            row.capacity_s = max(row.capacity_s, time.monotonic() - began)
            for held in gone:
                told = await server.get(held.path)
                assert (told.status, told.json["reason"]) == (410, "lost")
            load, sessions = Load(server, may_cut=True), SessionLoad(server, may_cut=True)
            async with load, sessions:
                await sessions.ran(more=1)
                await asyncio.sleep(chance.uniform(0.05, 1.0))
                for one, its in ((row, load), (session_row, sessions)):
                    one.times += 1
                    one.in_flight += len(its.in_flight)
                server.process.kill()
                await server.ended()
                load.stop()
                sessions.stop()
            await settle(row, load)
            await settle(session_row, sessions)
            gone = list(sessions.held.values())
        last = server
    assert gone
    assert last is not None
    async with serving(bed, tmp_path / "after"):
        await last.no_container_left(within_s=GONE_S)
    # Of the very last one its end takes care, or the server of the other tests.


async def test_sigterm_under_load_drains(bed: Bed, tmp_path: Path) -> None:
    row = bed.report.row("SIGTERM under load")
    async with serving(bed, tmp_path / "s") as server:
        await server.ready()
        sessions = SessionLoad(server, may_cut=True, ends=frozenset({"drained"}))
        async with Load(server, may_cut=True) as load, sessions:
            held = asyncio.create_task(server.run(GATE + "print('finished')"))
            await load.ran(more=10)
            await sessions.ran(more=5)
            row.times += 1
            row.in_flight += len(load.in_flight) + 1
            server.process.send_signal(signal.SIGTERM)
            await server.logged("draining")
            load.stop()

            async def told() -> bool:
                return sessions.ended["drained"] > 0

            await until(told, "the client of a session knows why it has ended")
            sessions.stop()
            await asyncio.sleep(0.5)
            assert not held.done()
            await server.open_gates()
            assert (await held).json["data"] == "finished\n"
            row.once += 1
            ended = await asyncio.wait_for(
                server.ended(), float(server.settings["DRAIN_TIMEOUT_S"])
            )
            assert ended == 0, server.stderr[-2000:]
        await settle(row, load)
        await settle(bed.report.row(row.fault + SESSIONS), sessions)
        assert await server.containers() == {}
        assert "Traceback" not in server.stderr


async def test_a_second_sigterm_under_load_ends_at_once(bed: Bed, tmp_path: Path) -> None:
    row = bed.report.row("a second SIGTERM under load")
    async with serving(bed, tmp_path / "s") as server:
        await server.ready()
        sessions = SessionLoad(server, may_cut=True, ends=frozenset({"drained"}))
        async with Load(server, may_cut=True) as load, sessions:
            held = asyncio.create_task(server.run("while True: pass"))
            await load.ran(more=10)
            await sessions.ran(more=5)
            row.times += 1
            row.in_flight += len(load.in_flight) + 1
            server.process.send_signal(signal.SIGTERM)
            await server.logged("draining")
            load.stop()
            sessions.stop()
            await asyncio.sleep(0.6)  # one that follows at once is taken for an echo
            server.process.send_signal(signal.SIGTERM)
            began = time.monotonic()
            assert await server.ended() == 128 + signal.SIGTERM
            assert time.monotonic() - began < GONE_S
            with contextlib.suppress(ClientError, OSError):
                await held
            row.cut += 1
        await settle(row, load)
        await settle(bed.report.row(row.fault + SESSIONS), sessions)
        async with serving(bed, tmp_path / "next"):
            await server.no_container_left(within_s=GONE_S)


async def test_one_of_two_servers_is_killed(bed: Bed, tmp_path: Path) -> None:
    row = bed.report.row("one of two servers is killed")
    kept = SessionLoad(bed.server, ends=frozenset())
    async with serving(bed, tmp_path / "s") as server, Load(bed.server) as load, kept:
        await server.ready()
        async with Load(server, may_cut=True) as other, SessionLoad(server, may_cut=True) as lost:
            await other.ran(more=10)
            await lost.ran(more=5)
            mine, its = set(await bed.server.containers()), set(await server.containers())
            assert not mine & its
            row.times += 1
            row.in_flight += len(load.in_flight) + len(other.in_flight)
            server.process.kill()
            await server.ended()
            other.stop()
            lost.stop()
        async with serving(bed, tmp_path / "next") as successor:
            await server.no_container_left(within_s=GONE_S)
            await successor.ready()
            await load.ran(more=20)
            await kept.ran(more=20)
    await settle(row, other)
    await settle(row, load)
    for sessions in (lost, kept):
        await settle(bed.report.row(row.fault + SESSIONS), sessions)
    said = [one.detail for one in (*load.done, *kept.done) if "container_lost" in one.detail]
    assert not said, "the other server's end is no business of this one"


async def test_descriptors_are_exhausted(bed: Bed, tmp_path: Path) -> None:
    async def exhausted(bed: Bed) -> None:
        pid = bed.server.process.pid
        soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        lines: list[Line] = []
        assert bed.load is not None
        # Whom the kernel lets in, the server can only show out.
        bed.load.may_cut = bed.sessions.may_cut = True
        bed.injected()
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (MOST_DESCRIPTORS, hard))
        try:
            for _ in range(2 * MOST_DESCRIPTORS):
                with contextlib.suppress(OSError):
                    lines.append(await Line.open(bed.server.port))
            await asyncio.sleep(bed.hold_s)
        finally:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
            for line in lines:
                line.close()

    await bed.suffers("descriptors are exhausted", exhausted, clients=5)


async def test_the_event_loop_is_blocked(bed: Bed) -> None:
    async def blocked(bed: Bed) -> None:
        bed.injected()
        bed.server.process.send_signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(BLOCKED_S)
        finally:
            bed.server.process.send_signal(signal.SIGCONT)
        resumed_at = time.monotonic()
        await bed.server.logged("the event loop goes on")
        await bed.watch.says(ready=True)
        # A stopped process answers nobody: what was asked before is not held against it.
        bed.watch.glances[:] = [
            one for one in bed.watch.glances if one.at - one.health_s > resumed_at
        ]

    await bed.suffers("the event loop is blocked", blocked, clients=5)


async def test_the_clock_is_set(make_bed: MakeBed, tmp_path: Path) -> None:
    """What seems to have expired is removed, but not where its server is seen to live."""
    if reason := unusable():
        pytest.skip(reason)
    clock = WallClock(tmp_path)
    expired: list[str] = []

    async def is_set(bed: Bed) -> None:
        assert bed.load is not None
        bed.load.wants_fresh = False  # so that containers of before are there after
        for ahead_s in (DAY_S, -DAY_S):
            bed.injected()
            clock.set(ahead_s)
            expired.append(await swept(bed, time.time() + ahead_s - HOUR_S))

    async with make_bed(clock.environment) as bed:
        await bed.suffers("the clock is set", is_set, clients=5)
        said = [one["event"] for one in bed.server.log]
        removed = {one for one in said if "left over" in one}
        mine = [f"removing {one[:12]}, which another server left over" for one in expired]
        # What has expired by the true time may be removed by a server of the other tests.
        assert {mine[0]} <= removed <= set(mine)
        assert not [one for one in said if "was lost" in one or "never came up" in one]


async def swept(bed: Bed, expires_at: float) -> str:
    """Have the server look for what others left, which it does when the engine is back.

    Return what it found: of a server on another machine, a container whose time is up.
    """
    image, owner = bed.settings["IMAGE"], labels("another/boot/pid:[1]/1/1", expires_at)
    container = await bed.engine.client.create(image, ["true"], owner)
    bed.engine.freeze()
    try:
        await bed.watch.says(ready=False, why="no good answer from the engine")
    finally:
        bed.engine.thaw()
    await until_gone(bed.engine.client, container)
    return container


async def test_a_restart_in_the_middle_of_an_installation(bed: Bed, tmp_path: Path) -> None:
    """The engine's network leads nowhere, so that an installation takes its time."""
    row = bed.report.row("a restart in the middle of an installation")
    for how in (signal.SIGKILL, signal.SIGTERM) if bed.long else (signal.SIGKILL,):
        settings = {"NETWORK": "egress", "RUN_TIMEOUT_S": 2, "DRAIN_TIMEOUT_S": 3}
        async with serving(bed, tmp_path / how.name, **settings) as server:
            await server.ready()
            await server.at_rest()
            before = len(await server.containers())
            body = {"dependencies": ["six"]}
            waiting = asyncio.create_task(server.run("pass", dependencies=["six"]))
            opening = asyncio.create_task(server.request("POST", "/sessions", json=body))

            async def installs(server: Server = server, before: int = before) -> bool:
                return len(await server.containers()) > before

            await until(installs, "a container to install in")
            await asyncio.sleep(1)
            assert not waiting.done()
            assert not opening.done()
            server.process.send_signal(how)
            for one, task in ((row, waiting), (bed.report.row(row.fault + SESSIONS), opening)):
                one.times += 1
                one.in_flight += 1
                if how is signal.SIGTERM:
                    assert (await task).status in (422, 503)
                    one.once += 1
                else:
                    with contextlib.suppress(ClientError, OSError):
                        await task
                    one.cut += 1
            ended = await server.ended()
            assert (ended == 0) is (how is signal.SIGTERM)
        async with serving(bed, tmp_path / f"{how.name}-next") as following:
            await server.no_container_left(within_s=GONE_S)
            await following.ready()
