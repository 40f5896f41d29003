"""Sessions on a pool: their books, their ends, and whose gives way to whom."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from pool import Job
from pool.errors import (
    ContainerLost,
    NoRoom,
    PoolClosed,
    SessionBusy,
    SessionEnd,
    SessionEnded,
    SessionsSaturated,
    TenantSaturated,
)
from pool.sessions import Sessions
from pool.sizing.recycling import Reason
from tests.unit.rig import quiet, rig

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pool.session import PooledSession
    from tests.unit.rig import Rig

pytestmark = pytest.mark.clock


class Clients:
    """Opens sessions, each held by a task of its own, as a server does."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.sessions = Sessions(rig.pool)

    async def open(self, tenant: str = "", idle_s: float = 300, code: bytes = b"") -> PooledSession:
        opened: asyncio.Future[PooledSession] = asyncio.get_running_loop().create_future()

        async def hold() -> None:
            lease = self.rig.pool.lease(tenant=tenant)
            job = Job(code, stdin=tenant.encode())
            try:
                async with self.sessions.open(lease, job, idle_s=idle_s) as session:
                    opened.set_result(session)
                    await session.until_ended()
            except Exception as error:  # noqa: BLE001 - for whoever opens it
                opened.set_exception(error)

        self.rig.spawn(hold())
        return await opened


@asynccontextmanager
async def clients(**config: Any) -> AsyncIterator[Clients]:
    async with rig(**{"max_containers": 4, "sessions_max": 2} | config) as this:
        found = Clients(this)
        yield found
        found.sessions.drain()
        await quiet()


async def test_a_session_runs_cell_after_cell_in_a_container_that_is_never_used_again() -> None:
    async with clients() as them:
        session = await them.open()
        for _ in range(3):
            result = await session.run(Job(b"ok"))
            assert (result.stdout, result.shown and result.shown.value) == (b"hello\n", "42")
        await quiet()
        now = them.rig.now
        assert (now.session, now.leased, now.total) == (1, 0, 2)  # and one idle
        session.end(SessionEnd.DELETED)
        await quiet()
        assert (them.rig.now.session, len(them.sessions)) == (0, 0)
        assert them.rig.seen.destroys == {Reason.SESSION: 1}
        with pytest.raises(SessionEnded, match="was deleted"):
            await session.run(Job(b"ok"))


async def test_a_cell_that_shows_more_than_comes_back_has_a_truncated_result() -> None:
    async with clients() as them:
        session = await them.open()
        for code, truncated in (b"show more", True), (b"ok", False):
            result = await session.run(Job(code))
            assert (result.truncated, result.shown and result.shown.value) == (truncated, "42")


async def test_no_container_starts_before_a_session_is_open() -> None:
    async with clients() as them:
        engine = them.rig.engine
        engine.write_gate = asyncio.Event()
        opening = them.rig.spawn(them.open())
        await quiet()
        assert (them.rig.now.session, them.rig.now.starting, engine.started) == (1, 0, 1)
        engine.write_gate.set()
        await opening
        await quiet()
        assert (them.rig.now.idle, engine.started) == (1, 2)


async def test_a_session_that_opens_holds_up_no_start_for_another_lease() -> None:
    async with clients(min_idle=2) as them:
        engine = them.rig.engine
        engine.write_gate = asyncio.Event()
        works = [them.rig.spawn(work) for work in (them.rig.run(), them.open())]
        await quiet()
        assert (them.rig.now.leased, them.rig.now.session) == (1, 1)
        assert engine.started > 2
        engine.write_gate.set()
        await asyncio.gather(*works)


async def test_a_session_that_cannot_be_opened_is_replaced_all_the_same() -> None:
    async with clients() as them:
        engine = them.rig.engine
        engine.write_gate = asyncio.Event()
        opening = them.rig.spawn(them.open())
        await quiet()
        them.rig.container().vanish()
        engine.write_gate.set()
        with pytest.raises(ContainerLost):
            await opening
        await quiet()
        assert (them.rig.now.session, them.rig.now.idle, engine.started) == (0, 1, 2)


async def test_a_session_ends_once_it_has_been_idle_and_once_it_is_old() -> None:
    async with clients(session_max_age_s=100) as them:
        idle, used = await them.open(idle_s=30), await them.open(idle_s=30)
        for _ in range(4):
            await asyncio.sleep(20)
            await used.run(Job(b"ok"))
        assert (idle.reason, used.reason) == (SessionEnd.IDLE, None)
        assert used.expires_in_s == pytest.approx(20)
        await asyncio.sleep(19)
        await used.run(Job(b"ok"))
        await asyncio.sleep(1.01)
        assert used.reason is SessionEnd.AGE


async def test_a_session_runs_one_cell_at_a_time() -> None:
    async with clients() as them:
        session = await them.open()
        first = them.rig.spawn(session.run(Job(b"hang")))
        await quiet()
        with pytest.raises(SessionBusy):
            await session.run(Job(b"ok"))
        first.cancel()
        await quiet()
        assert (await session.run(Job(b"ok"))).stdout == b"hello\n"


async def test_a_cancelled_cell_is_interrupted_and_leaves_the_session_as_it_is() -> None:
    async with clients() as them:
        session = await them.open()
        heard: list[bytes] = []
        cell = them.rig.spawn(session.run(Job(b"hang"), lambda _kind, data: heard.append(data)))
        await quiet()
        cell.cancel()
        await quiet()
        assert cell.cancelled()
        assert heard == []  # whoever listened has gone
        assert not session.busy
        assert session.reason is None


async def test_deleting_a_session_loses_the_cell_that_runs_but_age_waits_for_it() -> None:
    async with clients(session_max_age_s=10) as them:
        old, deleted = await them.open(), await them.open()
        cells = [them.rig.spawn(one.run(Job(b"hang"))) for one in (old, deleted)]
        await asyncio.sleep(11)
        assert not cells[0].done()
        container = them.rig.engine.containers[old.container.id]
        container.finish(b"")
        assert (await cells[0]).stdout == b""
        await quiet()
        assert old.reason is SessionEnd.AGE
        deleted.end(SessionEnd.DELETED)
        with pytest.raises(SessionEnded, match="deleted"):
            await cells[1]


async def test_a_container_that_dies_ends_its_session_at_once_or_in_its_cell() -> None:
    async with clients() as them:
        idle, busy = await them.open(), await them.open()
        them.rig.engine.containers[idle.container.id].vanish()
        with pytest.raises(ContainerLost) as raised:
            await busy.run(Job(b"die"))
        assert raised.value.begun
        await quiet()
        assert (idle.reason, busy.reason) == (SessionEnd.LOST, SessionEnd.LOST)
        assert them.rig.now.session == 0
        with pytest.raises(SessionEnded, match="container was lost"):
            await busy.run(Job(b"ok"))


async def test_a_session_hears_of_containers_that_the_pool_loses() -> None:
    async with clients() as them:
        session = await them.open()
        them.rig.pool.lose({session.container.id})
        await quiet()
        assert session.reason is SessionEnd.LOST


async def test_files_that_do_not_fit_leave_the_session_as_it_is() -> None:
    async with clients() as them:
        session = await them.open()
        from pool.job import InputFile  # noqa: PLC0415

        with pytest.raises(NoRoom):
            await session.run(Job(b"no room", files=[InputFile("a", b"x")]))
        assert (await session.run(Job(b"ok"))).stdout == b"hello\n"


async def test_beyond_the_limit_a_tenant_is_told_when_to_come_back() -> None:
    async with clients() as them:
        await them.open("a", idle_s=60)
        await them.open("a")
        with pytest.raises(SessionsSaturated, match="there are 2 sessions, as many") as raised:
            await them.open("a")
        assert raised.value.retry_after_s == pytest.approx(60)
        assert len(them.sessions) == 2


async def test_where_there_may_be_none_nobody_is_told_to_come_back_soon() -> None:
    async with clients(sessions_max=0) as them:
        with pytest.raises(SessionsSaturated, match="PGEXEC_SESSIONS_MAX is 0") as raised:
            await them.open()
        assert raised.value.retry_after_s == 3600


async def test_a_tenant_with_many_sessions_gives_up_the_one_idle_for_the_longest() -> None:
    async with clients() as them:
        first, second = await them.open("a"), await them.open("a")
        await asyncio.sleep(1)
        await first.run(Job(b"ok", stdin=b"a"))
        other = await them.open("b")
        assert (first.reason, second.reason) == (None, SessionEnd.QUOTA)
        with pytest.raises(SessionsSaturated):  # each has one now
            await them.open("b")
        assert other.reason is None


async def test_a_tenant_at_its_own_limit_replaces_its_idle_session() -> None:
    async with clients(tenant_max_running=1, sessions_max=4) as them:
        first = await them.open("a")
        second = await them.open("a")
        assert (first.reason, second.reason) == (SessionEnd.QUOTA, None)
        cell = them.rig.spawn(second.run(Job(b"hang", stdin=b"a")))
        await quiet()
        with pytest.raises(TenantSaturated):
            await them.open("a")
        with pytest.raises(TenantSaturated, match="this tenant has 1 session already"):
            await them.rig.run(tenant="a")
        cell.cancel()
        await quiet()


async def test_a_run_replaces_an_idle_session_only_if_its_tenant_has_nothing_else() -> None:
    async with clients(tenant_max_running=2, sessions_max=4, max_containers=6) as them:
        first = await them.open("a")
        await asyncio.sleep(1)
        second = await them.open("a")
        runs = [them.rig.spawn(them.rig.run(b"hang", tenant="a")) for _ in range(2)]
        await quiet()
        assert (first.reason, second.reason) == (SessionEnd.QUOTA, None)
        sentence = "this tenant has 1 run in progress or waiting and 1 session already"
        with pytest.raises(TenantSaturated, match=sentence):
            await runs[1]  # the first one has the place, and will give it back
        runs[0].cancel()
        await quiet()
        assert (await them.rig.run(tenant="a"))[1].stdout == b"hello\n"
        assert second.reason is None
        second.end(SessionEnd.DELETED)
        await quiet()
        assert them.rig.pool.quota._runs == them.rig.pool.quota._sessions == {}


async def test_a_drain_ends_idle_sessions_at_once_and_others_after_their_cell() -> None:
    async with clients() as them:
        idle, busy = await them.open(), await them.open()
        cell = them.rig.spawn(busy.run(Job(b"hang")))
        await quiet()
        them.sessions.drain()
        await quiet()
        assert (idle.closed.is_set(), busy.closed.is_set()) == (True, False)
        with pytest.raises(SessionEnded, match="about to stop"):
            await busy.run(Job(b"ok"))
        them.rig.engine.containers[busy.container.id].finish(b"")
        assert (await cell).stdout == b""
        await quiet()
        assert busy.closed.is_set()
        with pytest.raises(PoolClosed):
            await them.open()


async def test_sessions_take_no_part_in_what_runs_are_expected_to_take() -> None:
    async with clients(autoscale=True) as them:
        session = await them.open()
        await asyncio.sleep(200)
        session.end(SessionEnd.DELETED)
        await quiet()
        assert them.rig.pool._meter.turn_s < 1


@pytest.mark.parametrize("turns", range(8))
async def test_a_session_whose_opening_is_cancelled_leaves_nothing(turns: int) -> None:
    async with clients() as them:
        opening = them.rig.spawn(them.open())
        for _ in range(turns):
            await asyncio.sleep(0)
        opening.cancel()
        for client in them.rig.clients:
            client.cancel()
        await quiet()
        assert (them.rig.now.session, len(them.sessions)) == (0, 0)
