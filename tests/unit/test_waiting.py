"""Tenants beside each other: turns, places in the queue, shares of the containers, and a limit."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool.errors import EngineError, LeaseTimeout, PoolSaturated, TenantSaturated
from pool.job import Job, Status
from pool.observer import Rejection, Source
from pool.sizing.recycling import Reason
from pool.waiting import Queue, Quota
from tests.unit.fake_engine import FakeEngine
from tests.unit.rig import quiet, rig

if TYPE_CHECKING:
    from pool.lease import Lease
    from pool.waiting import Grant


class Waiter:
    """As much of a lease as the queue looks at."""

    def __init__(self, tenant: str, number: int = 0, heard: list[int] | None = None) -> None:
        self.on_queued = None if heard is None else heard.append
        self.position = 0
        self.tenant = tenant
        self.number = number

    def __repr__(self) -> str:
        return f"{self.tenant}{self.number}"


class Reply:
    """As much of a future as the queue looks at."""

    def __init__(self) -> None:
        self.over = False

    def done(self) -> bool:
        return self.over


def join(queue: Queue, waiter: Waiter) -> Reply:
    reply = Reply()
    queue.join(cast("Lease", waiter), cast("Grant", reply))
    return reply


def order(queue: Queue) -> list[Waiter]:
    return [cast("Waiter", lease) for lease in queue]


def queue_of(tenants: str, places: int = 100) -> Queue:
    queue = Queue(places)
    for number, tenant in enumerate(tenants):
        join(queue, Waiter(tenant, number))
    return queue


# --- turns --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("came", "served"),
    [
        ("", ""),
        ("aaa", "a0 a1 a2"),
        ("aaab", "a0 b3 a1 a2"),
        ("aaabbc", "a0 b3 c5 a1 b4 a2"),
        ("baaa", "b0 a1 a2 a3"),
    ],
)
def test_tenants_take_turns_and_each_is_first_come_first_served(came: str, served: str) -> None:
    queue = queue_of(came)
    assert " ".join(map(repr, order(queue))) == served
    one_by_one = []
    while len(queue):
        one_by_one.append(next(iter(queue)))
        queue.serve(one_by_one[-1])
    assert " ".join(map(repr, one_by_one)) == served


def test_who_gives_up_has_not_had_a_turn() -> None:
    queue = queue_of("aab")
    queue.remove(next(iter(queue)))
    assert " ".join(map(repr, order(queue))) == "a1 b2"


def test_who_comes_back_after_all_gave_up_queues_up_behind_the_others() -> None:
    queue = queue_of("a")
    queue.remove(next(iter(queue)))
    assert queue._waiting == {}
    for tenant in "ba":
        join(queue, Waiter(tenant))
    assert " ".join(map(repr, order(queue))) == "b0 a0"


def test_who_was_just_cancelled_is_passed_over() -> None:
    queue = Queue(9)
    replies = [join(queue, Waiter(tenant, number)) for number, tenant in enumerate("aab")]
    replies[0].over = True
    assert " ".join(map(repr, order(queue))) == "a1 b2"


# --- places -------------------------------------------------------------------------------------


@pytest.mark.parametrize("came", ["", "a", "aaab", "abcabc", "bbbbb", "abbcccc"])
@pytest.mark.parametrize("tenant", ["a", "d"])
def test_a_newcomer_is_served_after_those_ahead_at_the_latest(came: str, tenant: str) -> None:
    queue, newcomer = queue_of(came), Waiter(tenant, 99)
    ahead = queue.ahead(tenant)
    join(queue, newcomer)
    assert order(queue).index(newcomer) <= ahead


def test_one_tenant_alone_may_fill_the_queue_and_is_then_refused() -> None:
    queue = queue_of("aaaa", places=4)
    assert queue.refuses("a")
    with pytest.raises(RuntimeError):
        join(queue, Waiter("a"))
    assert len(queue) == 4


def test_the_newest_of_the_greediest_makes_way_until_the_shares_are_even() -> None:
    queue = queue_of("aaacaa", places=6)
    join(queue, Waiter("b", 6))
    assert " ".join(map(repr, order(queue))) == "a0 c3 b6 a1 a2 a4"
    join(queue, Waiter("b", 7))
    assert " ".join(map(repr, order(queue))) == "a0 c3 b6 a1 b7 a2"
    assert queue.refuses("b")
    assert not queue.refuses("c")
    assert not queue.refuses("d")


moves = st.lists(st.tuples(st.sampled_from("jjjsr"), st.sampled_from("aaaaabbcd")), max_size=80)


@given(moves, st.integers(1, 9))
def test_whatever_happens_turns_are_fair_and_nobody_loses_a_place_within_its_share(
    moves: list[tuple[str, str]], places: int
) -> None:
    queue = Queue(places)
    waiting: dict[
        Waiter, Counter[str]
    ] = {}  # with the turns of others while it is its tenant's first
    for number, (move, tenant) in enumerate(moves):
        taken = Counter(one.tenant for one in waiting)
        share = places // len({*taken, tenant})
        if move == "j" and queue.refuses(tenant):
            assert len(queue) == places
            assert taken[tenant] >= share
        elif move == "j":
            newcomer = Waiter(tenant, number)
            join(queue, newcomer)
            waiting[newcomer] = Counter()
            gone = set(waiting) - set(order(queue))
            assert len(gone) == (len(taken) > 0 and taken.total() == places)
            for shed in gone:
                assert taken[shed.tenant] > max(share, taken[tenant] + 1)
                assert shed == [one for one in waiting if one.tenant == shed.tenant][-1]
                del waiting[shed]
        elif waiting and move == "s":
            served = order(queue)[0]
            queue.serve(cast("Lease", served))
            assert served == next(one for one in waiting if one.tenant == served.tenant)
            del waiting[served]
            firsts = {one.tenant: one for one in reversed(waiting)}
            for first in firsts.values():
                if first.tenant != served.tenant:
                    waiting[first][served.tenant] += 1
                    assert waiting[first][served.tenant] <= 1
        elif waiting:
            gone_one = order(queue)[-1]
            assert queue.remove(cast("Lease", gone_one)) is not None
            assert queue.remove(cast("Lease", gone_one)) is None
            del waiting[gone_one]
        assert len(queue) == len(waiting) <= places
        assert set(order(queue)) == set(waiting)


def test_a_quota_forgets_who_has_nothing() -> None:
    quota = Quota(2)
    assert [quota.take(tenant) for tenant in "aaab"] == [True, True, False, True]
    for tenant in "aab":
        quota.give_back(tenant)
    assert quota._runs == {}
    assert all(Quota(0).take("a") for _ in range(9))


# --- in the pool --------------------------------------------------------------------------------


@pytest.mark.clock
async def test_a_tenant_with_few_waiters_is_served_after_one_turn_of_each_other() -> None:
    async with rig(max_containers=1) as pool:
        await pool.client(b"hang", tenant="a", name="first")
        later = [
            await pool.client(tenant=tenant, name=f"{tenant}{number}")
            for number, tenant in enumerate("aaaabbc")
        ]
        pool.container().finish()
        await asyncio.gather(*later)
        assert " ".join(pool.served) == "first a0 b4 c6 a1 b5 a2 a3"


@pytest.mark.clock
async def test_a_flood_takes_no_other_tenants_place() -> None:
    async with rig(max_containers=1, max_waiting=4) as pool:
        await pool.client(b"hang", tenant="a")
        flood = [await pool.client(tenant="a", name=f"a{number}") for number in range(4)]
        with pytest.raises(PoolSaturated):
            await pool.run(tenant="a")
        others = [await pool.client(tenant="b", name=f"b{number}") for number in range(2)]
        with pytest.raises(PoolSaturated):
            await pool.run(tenant="b")
        for shed in flood[2:]:
            error = shed.exception()
            assert type(error) is PoolSaturated
            assert error.retry_after_s >= 1
        assert pool.now.waiting == 4
        assert pool.seen.rejections == [Rejection.SATURATED] * 4
        pool.container().finish()
        await asyncio.gather(*flood[:2], *others)
        assert " ".join(pool.served).split()[-4:] == ["a0", "b0", "a1", "b1"]


@pytest.mark.clock
async def test_a_queue_that_one_tenant_has_filled_leaves_the_pool_ready_for_others() -> None:
    async with rig(max_containers=1, max_waiting=2) as pool:
        await pool.client(b"hang", tenant="a")
        for _ in range(2):
            await pool.client(tenant="a")
        assert (pool.now.ready, pool.now.full) == (True, False)
        await pool.client(tenant="b")
        assert pool.now.unready == "2 runs are already waiting for a container"
        assert pool.now.full


@pytest.mark.clock
async def test_a_waiter_that_is_cancelled_when_it_must_make_way_costs_nothing() -> None:
    async with rig(max_containers=1, max_waiting=2) as pool:
        await pool.client(b"hang", tenant="a")
        flood = [await pool.client(tenant="a") for _ in range(2)]
        other = pool.spawn(pool.run(tenant="b"))
        flood[-1].cancel()
        await quiet()
        assert flood[-1].cancelled()
        assert pool.now.waiting == 2
        pool.container().finish()
        assert (await other)[1].status is Status.OK


@pytest.mark.slow
@pytest.mark.clock
async def test_a_tenant_beside_a_flood_keeps_its_container_and_starts_are_few() -> None:
    engine = FakeEngine(start_s=0.3)
    async with rig(engine, min_idle=2, max_containers=4, max_uses=10**6) as pool:
        done: Counter[str] = Counter()

        async def client(tenant: str, pause_s: float) -> None:
            while True:
                async with pool.pool.lease(tenant=tenant) as lease:
                    await lease.run(Job(b"ok", stdin=tenant.encode()))
                    await asyncio.sleep(0.01)
                done[tenant] += 1
                await asyncio.sleep(pause_s)

        clients = [pool.spawn(client("a", 0)) for _ in range(16)]
        clients.append(pool.spawn(client("b", 0.005)))
        await asyncio.sleep(20)
        for one in clients:
            one.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
        assert engine.started < 10
        assert done["b"] > 1000
        assert done["a"] > 4000


@pytest.mark.clock
async def test_who_has_its_share_gets_what_another_has_left_idle_for_a_while() -> None:
    async with rig(min_idle=0, max_containers=2) as pool:
        await pool.client(b"hang", tenant="a")
        await pool.run(tenant="b")
        waiting = await pool.client(tenant="a", timeout_s=5)
        assert not waiting.done()
        await asyncio.sleep(1.1)
        assert (await waiting)[1].status is Status.OK
        assert pool.seen.destroys == {Reason.EVICTED: 1}


# --- the share ---------------------------------------------------------------------------------


@pytest.mark.clock
async def test_a_tenant_with_its_share_of_containers_waits_and_others_do_not() -> None:
    async with rig(min_idle=4, max_containers=4, tenant_share=3) as pool:
        running = [await pool.client(b"hang", tenant="a") for _ in range(3)]
        waiting = [await pool.client(b"hang", tenant="a") for _ in range(3)]
        assert (pool.now.leased, pool.now.idle, pool.now.waiting) == (3, 1, 3)
        for _ in range(5):
            assert (await pool.run(tenant="b"))[1].status is Status.OK
        busy = [one for one in pool.engine.containers.values() if one.busy]
        busy[0].finish()
        await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.sleep(0.1)
        assert (pool.now.leased, pool.now.waiting) == (3, 2)
        for task in (*running, *waiting):
            task.cancel()
        await asyncio.gather(*running, *waiting, return_exceptions=True)


@pytest.mark.clock
async def test_the_wait_for_ones_own_share_ends_with_a_sentence_about_it() -> None:
    async with rig(min_idle=2, max_containers=2, tenant_share=1) as pool:
        running = await pool.client(b"hang", tenant="a")
        with pytest.raises(LeaseTimeout, match="this tenant has 1 containers in use"):
            await pool.run(tenant="a")
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


# --- users of a tenant --------------------------------------------------------------------------


def users(text: str) -> list[str]:
    """Expand letters: a capital is a user of the tenant `a`."""
    return [f"a/{letter.lower()}" if letter.isupper() else letter for letter in text]


@pytest.mark.parametrize(
    ("came", "served"),
    [
        ("XXYb", "X0 b3 Y2 X1"),
        ("XYZbbb", "X0 b3 Y1 b4 Z2 b5"),
        ("aXXbb", "a0 b3 X1 b4 X2"),
    ],
)
def test_the_users_of_a_tenant_share_its_turns(came: str, served: str) -> None:
    queue = Queue(100)
    for number, tenant in enumerate(users(came)):
        join(queue, Waiter(tenant, number))
    turns = []
    while len(queue):
        lease = next(iter(queue))
        queue.serve(lease)
        number = cast("Waiter", lease).number
        turns.append(f"{came[number]}{number}")
    assert " ".join(turns) == served


@pytest.mark.parametrize("tenant", ["a", "a/x", "a/w", "b", "c"])
def test_with_users_too_a_newcomer_is_served_after_those_ahead_at_the_latest(tenant: str) -> None:
    queue, newcomer = Queue(100), Waiter(tenant, 99)
    for number, other in enumerate(users("XXYbbbZaX")):
        join(queue, Waiter(other, number))
    ahead = queue.ahead(tenant)
    join(queue, newcomer)
    assert order(queue).index(newcomer) <= ahead < 10


def test_the_users_of_a_tenant_share_its_places() -> None:
    queue = Queue(4)
    for number, tenant in enumerate(users("WXYZ")):
        join(queue, Waiter(tenant, number))
    join(queue, Waiter("b", 4))
    join(queue, Waiter("b", 5))
    assert queue.refuses("b")
    assert queue.refuses("a/v")
    assert Counter(one.tenant[0] for one in order(queue)) == {"a": 2, "b": 2}


@pytest.mark.clock
async def test_all_users_of_a_tenant_have_a_share_together() -> None:
    shares: dict[str, Any] = {"tenant_share": 3, "user_share": 2, "users_share": 3}
    async with rig(min_idle=4, max_containers=4, **shares) as pool:
        running = [await pool.client(b"hang", tenant=f"a/{name}") for name in "xxxyz"]
        assert (pool.now.leased, pool.now.waiting) == (3, 2)
        assert (await pool.run(tenant="b"))[1].status is Status.OK
        with pytest.raises(LeaseTimeout, match="the users of this key have 3 containers in use"):
            await pool.run(tenant="a/w")
        with pytest.raises(LeaseTimeout, match="this tenant has 2 containers in use"):
            await pool.run(tenant="a/x")
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


@pytest.mark.slow
@pytest.mark.clock
async def test_made_up_users_of_one_key_do_not_slow_the_first_run_of_another() -> None:
    """Each of their runs costs a start and an eviction; another key finds one container unused."""
    engine = FakeEngine(start_s=0.3, remove_s=0.05)
    shares: dict[str, Any] = {"tenant_share": 6, "user_share": 4, "users_share": 6}
    async with rig(engine, min_idle=4, max_containers=8, **shares) as pool:
        made_up = 0

        async def flood() -> None:
            nonlocal made_up
            while True:
                made_up += 1
                await pool.run(tenant=f"a/{made_up}", timeout_s=60)

        flooding = [pool.spawn(flood()) for _ in range(16)]
        await asyncio.sleep(5)
        waits = []
        for number in range(20):
            async with pool.pool.lease(tenant=f"b{number}", timeout_s=60) as lease:
                await lease.run(Job(b"ok"))
            waits.append(lease.queued_s)
            await asyncio.sleep(1)
        first = await pool.run(tenant="c")
        await asyncio.sleep(0.9)
        assert await pool.run(tenant="c") == first, "its container was left to it"
        for one in flooding:
            one.cancel()
        await asyncio.gather(*flooding, return_exceptions=True)
        await asyncio.sleep(2)
    assert sorted(waits)[len(waits) // 2] == 0
    assert made_up > 100


# --- the limit ----------------------------------------------------------------------------------


@pytest.mark.clock
async def test_what_runs_and_what_waits_counts_toward_a_tenants_limit() -> None:
    async with rig(max_containers=1, tenant_max_running=2) as pool:
        running = await pool.client(b"hang", tenant="a")
        waiting = await pool.client(tenant="a")
        with pytest.raises(TenantSaturated, match="2 runs") as caught:
            await pool.run(tenant="a")
        assert caught.value.retry_after_s >= 1
        assert pool.seen.rejections == [Rejection.TENANT_SATURATED]
        other = await pool.client(tenant="b")
        pool.container().finish()
        await asyncio.gather(running, waiting, other)
        assert (await pool.run(tenant="a"))[1].status is Status.OK


@pytest.mark.clock
async def test_a_run_whose_container_is_still_being_reset_counts_no_more() -> None:
    async with rig(tenant_max_running=1) as pool:
        await pool.run(b"slow reset")
        assert pool.now.resetting == 1
        await pool.run()


@pytest.mark.clock
@pytest.mark.parametrize("end", ["cancelled", "timeout", "run fails", "closed"])
async def test_a_run_that_comes_to_nothing_counts_no_more(end: str) -> None:
    async with rig(max_containers=1, tenant_max_running=1) as pool:
        if end == "run fails":
            with pytest.raises(EngineError):
                await pool.run(b"die", tenant="a")
        else:
            await pool.client(b"hang", tenant="b")
            waiting = await pool.client(tenant="a", timeout_s=3)
            if end == "cancelled":
                waiting.cancel()
            elif end == "closed":
                await pool.pool.close()
            await asyncio.wait([waiting])
            assert end != "timeout" or isinstance(waiting.exception(), LeaseTimeout)
        await quiet()
        assert "a" not in pool.pool.quota._runs


@pytest.mark.clock
async def test_a_limit_leaves_the_common_path_without_an_await() -> None:
    async with rig(min_idle=2, tenant_max_running=1) as pool:
        tasks = asyncio.all_tasks()
        with pytest.raises(StopIteration) as stop:
            pool.pool.lease().__aenter__().send(None)
        assert asyncio.all_tasks() == tasks
        assert stop.value.value.source is Source.IDLE
        await stop.value.value.__aexit__(None, None, None)


@pytest.mark.clock
async def test_the_time_to_come_back_is_that_of_the_tenants_own_runs() -> None:
    async with rig(max_containers=2, tenant_max_running=1) as pool:
        pool.pool._meter.turn_s = 7.0
        await pool.client(b"hang", tenant="a")
        with pytest.raises(TenantSaturated) as caught:
            await pool.run(tenant="a")
        assert caught.value.retry_after_s == 7
