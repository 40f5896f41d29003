"""The pool on a fake engine: what it lends, to whom, and when it gives up."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Any

import pytest

from pool import PoolConfig, PoolManager
from pool.engine.cleanup import see_through, until_removed
from pool.errors import (
    ContainerLost,
    EngineError,
    EngineUnavailable,
    LeaseTimeout,
    PoolClosed,
    PoolError,
    PoolSaturated,
    RunnerProtocolError,
)
from pool.job import Job, Status
from pool.manager import NO_LEASES
from pool.observer import Rejection, Source
from pool.sizing import planning
from pool.sizing.recycling import Reason
from pool.waiting import NEWS_S
from tests.unit.fake_engine import FakeEngine
from tests.unit.rig import quiet, rig

if TYPE_CHECKING:
    from pool.engine.api import CreateDocument
    from tests.unit.fake_engine import FakeContainer

pytestmark = pytest.mark.clock


# --- warm at start ------------------------------------------------------------------------------


async def test_a_started_pool_fills_up_to_min_idle_and_becomes_ready() -> None:
    engine = FakeEngine(start_gate=asyncio.Event())
    async with rig(engine, min_idle=3, max_containers=5) as pool:
        assert pool.now.starting == 2
        assert pool.now.unready == "warming up: 0 of 3 containers are ready"
        assert engine.start_gate is not None
        engine.start_gate.set()
        await quiet()
        assert (pool.now.idle, pool.now.starting) == (3, 0)
        assert pool.now.ready
    assert pool.engine.started == 3


async def test_no_more_than_start_concurrency_start_at_once() -> None:
    async with rig(
        FakeEngine(start_s=1), min_idle=7, max_containers=9, start_concurrency=3
    ) as pool:
        await asyncio.sleep(10)
        assert pool.now.idle == 7
        assert pool.engine.most_starting == 3


async def test_a_pool_that_was_not_started_or_is_closed_takes_no_leases() -> None:
    pool = PoolManager(FakeEngine().launcher(), PoolConfig())
    for _ in range(2):
        with pytest.raises(PoolClosed):
            async with pool.lease():
                pass
        await pool.close()
    with pytest.raises(RuntimeError):
        pool.start()


# --- the common path ----------------------------------------------------------------------------


async def test_an_idle_container_is_leased_without_giving_up_control() -> None:
    async with rig(min_idle=2) as pool:
        tasks = asyncio.all_tasks()
        with pytest.raises(StopIteration) as stop:
            pool.pool.lease().__aenter__().send(None)  # one step, and not a single await
        assert asyncio.all_tasks() == tasks
        lease = stop.value.value
        assert lease.source is Source.IDLE
        await lease.__aexit__(None, None, None)


async def test_the_container_used_last_is_used_next() -> None:
    async with rig(min_idle=3, max_containers=3) as pool:
        first, _ = await pool.run()
        for _ in range(2):
            await quiet()
            assert (await pool.run())[0] == first


async def test_the_result_and_the_output_of_a_run_are_those_of_its_container() -> None:
    async with rig() as pool:
        _, result = await pool.run(b"both")
        assert (result.data, result.stdout, result.stderr) == (b"12hello\n", b"1hello\n", b"2")


async def test_a_leased_container_is_replaced_so_that_min_idle_remain() -> None:
    async with rig(min_idle=2, max_containers=4) as pool:
        await pool.client(b"hang")
        assert (pool.now.idle, pool.now.leased) == (2, 1)


async def test_a_short_run_costs_one_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    plans: list[float] = []
    plan = planning.plan

    def count(view: Any, config: PoolConfig, now: float) -> Any:
        plans.append(now)
        return plan(view, config, now)

    async with rig() as pool:
        monkeypatch.setattr(planning, "plan", count)
        for runs in range(1, 4):
            await pool.run()
            await quiet()
            assert len(plans) == runs


async def test_a_container_that_is_being_reset_counts_as_coming_back() -> None:
    async with rig(min_idle=0) as pool:
        await pool.run(b"slow reset")
        waiting = await pool.client()
        assert (pool.now.resetting, pool.now.waiting, pool.engine.started) == (1, 1, 1)
        pool.container().finish_reset()
        await waiting
        assert pool.engine.started == 1


async def test_a_lease_runs_one_job_and_is_entered_once() -> None:
    async with rig() as pool:
        async with pool.pool.lease() as lease:
            await lease.run(Job(b"ok"))
            with pytest.raises(RuntimeError):
                await lease.run(Job(b"ok"))
        with pytest.raises(RuntimeError):
            await lease.run(Job(b"ok"))
        with pytest.raises(RuntimeError):
            await lease.__aenter__()


async def test_a_lease_in_which_nothing_ran_gives_its_container_back_untouched() -> None:
    async with rig(max_containers=1) as pool:
        async with pool.pool.lease(tenant="a", fresh=True) as lease:
            unused = lease.container.id
            container = lease.container
        assert (pool.now.idle, container.tenant, container.uses) == (1, None, 0)
        assert (await pool.run(tenant="b"))[0] == unused


async def test_an_exception_in_the_body_does_not_waste_a_clean_container() -> None:
    async with rig(max_containers=1) as pool:

        async def client() -> None:
            async with pool.pool.lease() as lease:
                await lease.run(Job(b"ok"))
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await client()
        await quiet()
        await pool.run()
        assert pool.engine.started == 1


# --- recycle or destroy -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "status", ["timeout", "memory_limit", "output_limit", "cpu_time", "killed"]
)
async def test_a_run_that_did_not_exit_by_itself_costs_its_container(status: str) -> None:
    async with rig() as pool:
        _, result = await pool.run(status.encode())
        assert result.status == status
        await quiet()
        assert pool.seen.destroys == {Reason(status): 1}
        assert pool.seen.recycles == 0
        assert (await pool.run())[1].status is Status.OK


@pytest.mark.parametrize("status", ["ok", "error"])
async def test_a_run_that_exited_by_itself_and_reset_cleanly_leaves_its_container(
    status: str,
) -> None:
    async with rig() as pool:
        _, result = await pool.run(status.encode())
        assert result.status == status
        await quiet()
        assert (pool.seen.recycles, pool.seen.destroys) == (1, {})


@pytest.mark.parametrize(
    ("code", "error", "reason"),
    [
        (b"die", ContainerLost, Reason.LOST),
        (b"die in a frame", ContainerLost, Reason.LOST),
        (b"garbage", RunnerProtocolError, Reason.PROTOCOL_ERROR),
        (b"lie about the run", RunnerProtocolError, Reason.PROTOCOL_ERROR),
        (b"malformed exit", RunnerProtocolError, Reason.PROTOCOL_ERROR),
        (b"flood", RunnerProtocolError, Reason.PROTOCOL_ERROR),
        (b"hang", RunnerProtocolError, Reason.PROTOCOL_ERROR),
    ],
)
async def test_a_runner_that_fails_costs_its_container_and_the_pool_goes_on(
    code: bytes, error: type[PoolError], reason: Reason
) -> None:
    async with rig() as pool:
        with pytest.raises(error):
            await pool.run(code)
        await quiet()
        assert pool.seen.destroys == {reason: 1}
        assert (await pool.run())[1].status is Status.OK


async def test_a_dirty_container_is_destroyed() -> None:
    async with rig() as pool:
        await pool.run(b"dirty")
        await quiet()
        assert pool.seen.destroys == {Reason.DIRTY: 1}
        assert [report.detail for report in pool.seen.resets] == ["3 inodes are left"]


async def test_a_container_that_dies_in_its_reset_is_destroyed() -> None:
    async with rig() as pool:
        await pool.run(b"die in reset")
        await quiet()
        assert pool.seen.destroys == {Reason.LOST: 1}


async def test_a_reset_that_takes_too_long_is_dirty() -> None:
    async with rig(reset_timeout_s=5) as pool:
        await pool.run(b"slow reset")
        await asyncio.sleep(4.9)
        assert pool.now.resetting == 1
        await asyncio.sleep(0.2)
        assert pool.seen.destroys == {Reason.DIRTY: 1}


async def test_a_container_is_used_max_uses_times_and_its_runner_knows_the_last() -> None:
    async with rig(max_uses=3) as pool:
        used = pool.container()
        for _ in range(4):
            await pool.run()
            await quiet()
        assert [header.last for header, _, _ in used.jobs] == [False, False, True]
        assert pool.seen.destroys == {Reason.MAX_USES: 1}


async def test_max_uses_1_never_uses_a_container_twice() -> None:
    async with rig(max_uses=1, max_containers=3) as pool:
        assert len({(await pool.run())[0] for _ in range(10)}) == 10
        assert pool.seen.recycles == 0


async def test_a_container_that_passed_max_age_in_its_lease_is_destroyed_after_it() -> None:
    async with rig(max_age_s=100) as pool:
        await asyncio.sleep(99)
        hanging = await pool.client(b"hang")
        await asyncio.sleep(2)
        pool.container().finish()
        await hanging
        await quiet()
        assert pool.seen.destroys == {Reason.MAX_AGE: 1}


async def test_a_fresh_run_gets_an_unused_container_that_nobody_uses_after_it() -> None:
    async with rig(max_containers=3) as pool:
        used, _ = await pool.run()
        await quiet()
        fresh, _ = await pool.run(fresh=True)
        assert fresh != used
        await quiet()
        assert pool.seen.destroys == {Reason.FRESH: 1}


async def test_a_fresh_run_evicts_a_used_container_when_the_pool_is_full() -> None:
    async with rig(max_containers=1) as pool:
        used, _ = await pool.run()
        await quiet()
        fresh, _ = await pool.run(fresh=True)
        assert fresh != used
        await quiet()
        assert pool.seen.destroys == {Reason.EVICTED: 1, Reason.FRESH: 1}


# --- tenants ------------------------------------------------------------------------------------


async def test_a_container_that_ran_one_tenants_code_never_runs_anothers() -> None:
    async with rig(max_containers=3) as pool:
        first, _ = await pool.run(tenant="a")
        await quiet()
        second, _ = await pool.run(tenant="b")
        await quiet()
        assert first != second
        assert (await pool.run(tenant="a"))[0] == first
        assert (await pool.run(tenant="b"))[0] == second


async def test_a_tenant_evicts_the_least_recently_used_of_others_when_the_pool_is_full() -> None:
    async with rig(min_idle=0, max_containers=2) as pool:
        for tenant in ("a", "b"):
            await pool.run(tenant=tenant)
            await quiet()
        kept = pool.container(1)
        await pool.run(tenant="c")
        await quiet()
        assert kept.id in pool.engine.containers
        assert pool.seen.destroys == {Reason.EVICTED: 1}


async def test_a_tenant_is_not_starved_by_another_whose_containers_keep_coming_back() -> None:
    async with rig(max_containers=1) as pool:
        await pool.client(b"hang", tenant="a")
        later = [
            await pool.client(tenant=tenant, name=f"{tenant}{number}")
            for number, tenant in enumerate("abaa")
        ]
        pool.container().finish()
        await asyncio.gather(*later)
        assert pool.served[1:] == ["a0", "b1", "a2", "a3"]


# --- waiting ------------------------------------------------------------------------------------


async def test_waiters_are_served_first_come_first_served() -> None:
    async with rig(max_containers=1) as pool:
        await pool.client(b"hang")
        waiting = [await pool.client(name=str(number)) for number in range(5)]
        assert pool.now.waiting == 5
        pool.container().finish()
        await asyncio.gather(*waiting)
        assert pool.served[1:] == ["0", "1", "2", "3", "4"]
        assert set(pool.seen.sources) == {Source.IDLE, Source.WAITED}


async def test_a_newcomer_does_not_overtake_who_waits() -> None:
    async with rig(max_containers=1) as pool:
        hanging = await pool.client(b"hang", name="first")
        await pool.client(name="waits")
        pool.container().finish()
        await hanging
        await pool.run(name="newcomer")
        assert pool.served == ["first", "waits", "newcomer"]


async def test_who_waits_hears_its_place_and_each_change_of_it() -> None:
    heard: dict[str, list[int]] = {"a": [], "b": [], "c": [], "d": []}
    async with rig(max_containers=1) as pool:
        await pool.client(b"hang", on_queued=heard["a"].append)
        await pool.client(b"hang", on_queued=heard["b"].append)
        gives_up = await pool.client(on_queued=heard["c"].append)
        await pool.client(name="deaf")
        waits = await pool.client(on_queued=heard["d"].append)
        assert heard == {"a": [], "b": [1], "c": [2], "d": [4]}
        gives_up.cancel()
        await quiet()
        assert heard["d"] == [4, 3]
        pool.container().finish()
        await quiet()
        assert heard["d"] == [4, 3, 2]
        pool.container().finish()
        await waits
        assert heard == {"a": [], "b": [1], "c": [2], "d": [4, 3, 2, 1]}


async def test_many_who_wait_hear_less_often_but_in_the_end_of_their_last_place() -> None:
    heard: list[list[int]] = [[] for _ in range(100)]
    async with rig(max_containers=1, max_waiting=100) as pool:
        await pool.client(b"hang")
        clients = [await pool.client(b"hang", on_queued=one.append) for one in heard]
        assert heard == [[place] for place in range(1, 101)]
        for _ in range(20):
            pool.container().finish()
            await quiet()
        # 20 ends in a tenth of a second, of which each changes the place of all who wait.
        assert len(heard[99]) <= 3
        await asyncio.sleep(NEWS_S * 100)
        assert [one[-1] for one in heard[20:]] == list(range(1, 81))
        for client in clients[20:]:
            client.cancel()
        pool.container().finish()


async def test_who_is_refused_a_place_hears_of_none() -> None:
    heard: list[int] = []
    async with rig(max_containers=1, max_waiting=1) as pool:
        await pool.client(b"hang")
        await pool.client()
        with pytest.raises(PoolSaturated):
            await pool.run(on_queued=heard.append)
        pool.container().finish()
    assert heard == []


async def test_a_lease_knows_what_its_wait_was_made_of() -> None:
    engine = FakeEngine()
    async with rig(engine, max_containers=2) as pool:
        engine.start_s = 0.5
        await pool.client(b"hang")
        lease = pool.pool.lease()
        async with lease:
            pass
        assert 0 < lease.queued_s <= pool.seen.waits[-1]


async def test_a_waiter_gives_up_at_its_deadline() -> None:
    async with rig(max_containers=1) as pool:
        await pool.client(b"hang")
        began = asyncio.get_running_loop().time()
        with pytest.raises(LeaseTimeout, match=r"within 3 s") as caught:
            await pool.run(timeout_s=3)
        assert asyncio.get_running_loop().time() - began == pytest.approx(3)
        assert caught.value.retry_after_s >= 1
        assert pool.now.waiting == 0
        assert pool.seen.rejections == [Rejection.TIMEOUT]


async def test_a_full_queue_refuses_at_once_and_says_when_to_come_back() -> None:
    async with rig(max_containers=1, max_waiting=2) as pool:
        await pool.client(b"hang")
        for _ in range(2):
            await pool.client()
        with pytest.raises(PoolSaturated) as caught:
            await pool.run()
        assert not isinstance(caught.value, LeaseTimeout)
        assert caught.value.retry_after_s >= 1
        assert pool.seen.rejections == [Rejection.SATURATED]
        assert not pool.now.ready


async def test_nothing_is_started_twice_for_one_need() -> None:
    async with rig(
        FakeEngine(start_s=1), min_idle=0, max_containers=8, start_concurrency=8
    ) as pool:
        for _ in range(3):
            await pool.client(b"hang")
        assert pool.now.starting == 3
        await asyncio.sleep(2)
        assert pool.engine.started == 3
        assert pool.seen.sources == [Source.STARTED] * 3


# --- time and loss ------------------------------------------------------------------------------


async def test_what_is_idle_for_long_is_evicted_down_to_min_idle() -> None:
    async with rig(min_idle=1, max_containers=4, idle_timeout_s=300) as pool:
        hanging = [await pool.client(b"hang") for _ in range(3)]
        for number in range(3):
            pool.container(number).finish()
        await asyncio.gather(*hanging)
        await asyncio.sleep(299)
        assert pool.now.idle == 4
        await asyncio.sleep(2)
        assert pool.now.idle == 1
        assert pool.seen.destroys == {Reason.IDLE_TIMEOUT: 3}


async def test_old_idle_containers_are_replaced_one_after_the_other() -> None:
    engine = FakeEngine(start_s=1)
    async with rig(engine, min_idle=3, max_containers=3, max_age_s=100) as pool:
        await asyncio.sleep(90)
        first = set(engine.containers)
        fewest = 3
        for _ in range(60):
            await asyncio.sleep(0.5)
            fewest = min(fewest, pool.now.idle)
        assert pool.seen.destroys == {Reason.MAX_AGE: 3}
        assert first.isdisjoint(engine.containers)
        assert fewest == 2


async def test_a_container_lost_while_idle_is_dropped_and_replaced() -> None:
    async with rig() as pool:
        await pool.run()
        await quiet()
        pool.container().vanish()
        await quiet()
        assert pool.seen.destroys == {Reason.LOST: 1}
        assert list(pool.engine.containers) == ["c2"]
        assert pool.now.start_failure is None


async def test_containers_that_die_before_their_first_use_are_not_replaced_in_a_hot_loop() -> None:
    async with rig(backoff_first_s=1) as pool:
        pool.container().vanish()
        await quiet()
        assert pool.now.total == 0
        assert pool.now.start_failure == "a container ended before its first use"
        await asyncio.sleep(1.1)
        assert pool.now.idle == 1
        assert pool.now.start_failure is None


# --- an engine that fails -----------------------------------------------------------------------


async def test_failing_starts_back_off_and_the_pool_recovers_by_itself(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    engine = FakeEngine(down=True)
    async with rig(
        engine, min_idle=4, max_containers=4, backoff_first_s=1, backoff_max_s=8
    ) as pool:
        assert pool.now.unready == "containers fail to start: the engine is away"
        await asyncio.sleep(60)
        assert len(pool.seen.failures) <= 2 + 3 + 60 / 8 + 1
        engine.down = False
        await asyncio.sleep(9)
        assert pool.now.idle == 4
        assert (pool.now.ready, pool.now.start_failure) == (True, None)
    sentences = [record.getMessage() for record in caplog.records]
    assert sentences == [
        "containers fail to start: the engine is away",
        "containers start again",
    ]


async def test_starts_that_fail_together_are_one_failure_and_one_start_finds_out_more() -> None:
    engine = FakeEngine(down=True)
    async with rig(
        engine, min_idle=3, max_containers=3, start_concurrency=3, backoff_first_s=1
    ) as pool:
        counts = []
        for pause_s in (0.9, 0.2, 1.8, 0.2):
            await asyncio.sleep(pause_s)
            counts.append(len(pool.seen.failures))
        assert counts == [3, 4, 4, 5]


async def test_a_start_that_succeeds_beside_one_that_fails_does_not_disarm_the_back_off() -> None:
    engine = FakeEngine(start_s=0.1, start_errors=deque([EngineError("one of two")]))
    async with rig(engine, min_idle=2, max_containers=4, backoff_first_s=20) as pool:
        await asyncio.sleep(1)
        assert pool.now.idle == 2
        engine.down = True
        pool.container().vanish()
        await asyncio.sleep(10)
        assert pool.seen.failures == ["engine_error", "lost"]
        engine.down = False
        await asyncio.sleep(60)


async def test_a_pool_is_told_that_the_engine_is_back_and_tries_at_once() -> None:
    engine = FakeEngine(down=True)
    async with rig(engine, backoff_first_s=20) as pool:
        engine.down = False
        pool.pool.retry()
        await quiet()
        assert pool.now.idle == 1


async def test_a_waiter_is_told_at_its_deadline_why_there_are_no_containers() -> None:
    async with rig(FakeEngine(down=True)) as pool:
        with pytest.raises(EngineUnavailable, match="the engine is away"):
            await pool.run()
        assert pool.seen.rejections == [Rejection.UNAVAILABLE]
        pool.engine.down = False


async def test_a_waiter_is_served_when_the_engine_recovers_before_its_deadline() -> None:
    async with rig(FakeEngine(down=True), backoff_first_s=1) as pool:
        client = await pool.client()
        pool.engine.down = False
        assert (await client)[1].status is Status.OK


@pytest.mark.parametrize("boot", ["silent", "dies", "garbage", "not json"])
async def test_a_container_that_does_not_become_ready_is_removed_and_another_started(
    boot: str,
) -> None:
    async with rig(FakeEngine(boots=deque([boot]))) as pool:
        await asyncio.sleep(30)
        assert len(pool.seen.failures) == 1
        assert list(pool.engine.containers) == ["c2"]


async def test_a_launcher_that_breaks_does_not_break_the_pool(
    caplog: pytest.LogCaptureFixture,
) -> None:
    engine = FakeEngine(start_errors=deque([KeyError("bug")]))
    async with rig(engine) as pool:
        assert pool.now.start_failure == "KeyError: 'bug'"
        await asyncio.sleep(1)
        assert pool.now.idle == 1
    assert "unexpected error" in caplog.text


async def test_a_launcher_that_hangs_is_given_up() -> None:
    engine = FakeEngine(start_gate=asyncio.Event())
    async with rig(engine, start_timeout_s=2) as pool:
        await asyncio.sleep(2.1)
        assert pool.seen.failures == ["timeout"]
        assert str(pool.now.start_failure).startswith("not ready within 2 s; ")


async def test_failed_starts_keep_their_slots_while_the_engine_removes_nothing() -> None:
    gate = asyncio.Event()
    engine = FakeEngine(boots=deque(["silent"] * 50), remove_gate=gate)
    async with rig(engine, start_timeout_s=2, max_containers=4, min_idle=4) as pool:
        for _ in range(100):
            await asyncio.sleep(5)
            assert len(engine.containers) <= pool.now.total <= 4
        assert pool.now.destroying == 4
        assert str(pool.now.start_failure).startswith("not ready within 2 s; ")
        gate.set()
        engine.boots.clear()
        await asyncio.sleep(60)
        assert pool.now.idle == 4


async def test_what_an_engine_creates_after_all_counts_until_it_is_removed() -> None:
    gate = asyncio.Event()

    class SlowEngine(FakeEngine):
        async def start(self, document: CreateDocument) -> tuple[str, FakeContainer]:
            creation = asyncio.ensure_future(super().start(document))
            try:
                return await asyncio.shield(creation)
            except asyncio.CancelledError:
                await see_through(self._discard(creation))
                raise

        async def _discard(self, creation: asyncio.Future[tuple[str, FakeContainer]]) -> None:
            container_id = (await creation)[0]
            await until_removed(container_id, lambda: self.remove(container_id))

    engine = SlowEngine(start_gate=gate)
    async with rig(engine, start_timeout_s=2, max_containers=4, min_idle=4) as pool:
        await asyncio.sleep(300)
        assert (pool.now.total, engine.starting) == (4, 4)
        gate.set()
        await asyncio.sleep(60)
        assert (pool.now.idle, engine.most) == (4, 4)


async def test_a_paused_pool_starts_nothing_and_says_why() -> None:
    async with rig(min_idle=0) as pool:
        pool.pool.pause("preparing the image")
        client = await pool.client()
        assert (pool.now.starting, pool.now.unready) == (0, "preparing the image")
        pool.pool.resume()
        await client
        assert pool.now.ready


async def test_a_doubted_pool_is_unready_and_goes_on_all_the_same() -> None:
    async with rig() as pool:
        pool.pool.doubt("the engine hangs")
        assert pool.now.unready == "the engine hangs"
        await pool.run()
        pool.pool.doubt(None)
        assert pool.now.ready


async def test_containers_that_the_engine_has_stopped_are_replaced_and_their_runs_told() -> None:
    async with rig(min_idle=1, max_containers=2) as pool:
        client = await pool.client(b"hang")
        assert len(pool.engine.containers) == 2
        pool.pool.lose(list(pool.engine.containers))
        with pytest.raises(ContainerLost):
            await client
        await quiet()
        assert pool.seen.destroys == {Reason.LOST: 2}
        assert pool.now.idle == 1


async def test_a_renewed_pool_replaces_what_is_idle_and_recycles_nothing_from_before() -> None:
    async with rig(min_idle=2, max_containers=2) as pool:
        before = set(pool.engine.containers)
        running = asyncio.create_task(pool.run())
        await asyncio.sleep(0)
        pool.pool.renew()
        await running
        await quiet()
        assert before.isdisjoint(pool.engine.containers)
        assert pool.now.idle == 2
        assert pool.seen.destroys == {Reason.EVICTED: 2}


async def test_a_container_that_was_starting_when_its_pool_was_renewed_is_not_used() -> None:
    engine = FakeEngine()
    engine.start_gate = asyncio.Event()
    async with rig(engine, min_idle=1, max_containers=1) as pool:
        await asyncio.sleep(0.01)
        pool.pool.renew()
        engine.start_gate.set()
        await quiet()
        assert pool.seen.destroys == {Reason.EVICTED: 1}
        assert pool.now.idle == 1


async def test_a_pool_that_has_had_nothing_for_long_says_so() -> None:
    engine = FakeEngine()
    async with rig(engine, max_containers=1) as pool:
        await pool.run()
        await quiet()
        engine.start_gate = asyncio.Event()
        pool.container().vanish()
        await asyncio.sleep(0.9)
        assert pool.now.ready, "a moment without is how a small pool works"
        await asyncio.sleep(0.2)
        assert pool.now.unready == "no container is ready; 1 are starting"
        engine.start_gate.set()
        await quiet()
        assert pool.now.ready


async def test_a_pool_that_is_told_that_the_engine_is_back_begins_its_back_off_anew() -> None:
    engine = FakeEngine(down=True)
    async with rig(engine, backoff_first_s=1, backoff_max_s=64) as pool:
        await asyncio.sleep(40)
        pool.pool.retry()  # too early
        await quiet()
        engine.down = False
        await asyncio.sleep(2.1)
        assert pool.now.idle == 1


async def test_an_engine_that_removes_nothing_does_not_cost_all_working_containers() -> None:
    async with rig(max_containers=4, min_idle=4) as pool:
        hanging = [await pool.client(b"hang", tenant="a") for _ in range(4)]
        for number in range(4):
            pool.container(number).finish()
        await asyncio.gather(*hanging)
        pool.engine.down = True
        with pytest.raises(LeaseTimeout):
            await pool.run(tenant="b")
        assert (pool.now.idle, pool.now.destroying) == (2, 2)
        await pool.run(tenant="a")
        pool.engine.down = False
        await asyncio.sleep(60)


async def test_a_removal_that_fails_is_tried_until_it_succeeds_and_its_slot_is_kept() -> None:
    engine = FakeEngine(remove_errors=deque([EngineError("busy")] * 3))
    async with rig(engine, max_containers=1, backoff_first_s=1) as pool:
        await pool.run(b"timeout")
        await asyncio.sleep(5)
        assert (pool.now.destroying, pool.now.total, len(engine.containers)) == (1, 1, 1)
        await asyncio.sleep(3)
        assert (pool.now.destroying, pool.now.idle) == (0, 1)
        assert pool.seen.destroys == {Reason.TIMEOUT: 1}


async def test_a_removal_that_hangs_is_tried_again() -> None:
    engine = FakeEngine(remove_gate=asyncio.Event())
    async with rig(engine, remove_timeout_s=10) as pool:
        await pool.run(b"timeout")
        await asyncio.sleep(11)
        assert pool.now.destroying == 1
        engine.remove_gate = None
        await asyncio.sleep(11)
        assert pool.now.destroying == 0


# --- the end ------------------------------------------------------------------------------------


async def test_draining_lets_what_is_leased_end_and_refuses_the_rest() -> None:
    async with rig(max_containers=1) as pool:
        leased = await pool.client(b"hang")
        waiting = await pool.client()
        draining = pool.spawn(pool.pool.drain(30))
        await quiet()
        assert (pool.now.unready, pool.now.leased) == (NO_LEASES, 1)
        assert not draining.done()
        assert isinstance(waiting.exception(), PoolClosed)
        with pytest.raises(PoolClosed):
            await pool.run()
        pool.container().finish()
        assert (await leased)[1].status is Status.OK
        await draining
        assert pool.now.total == 0
        assert pool.seen.destroys == {Reason.DRAINED: 1}


async def test_draining_destroys_what_is_still_leased_after_its_timeout() -> None:
    async with rig() as pool:
        leased = await pool.client(b"hang")
        began = asyncio.get_running_loop().time()
        await pool.pool.drain(7)
        assert asyncio.get_running_loop().time() - began == pytest.approx(7, abs=0.1)
        assert isinstance(leased.exception(), ContainerLost)
        assert pool.engine.containers == {}


async def test_closing_cuts_a_drain_short_and_both_may_be_repeated() -> None:
    async with rig() as pool:
        await pool.client(b"hang")
        began = asyncio.get_running_loop().time()
        draining = pool.spawn(pool.pool.drain(30))
        await quiet()
        await pool.pool.close()
        await draining
        await pool.pool.drain()
        assert asyncio.get_running_loop().time() - began < 1


async def test_closing_cancels_what_is_starting() -> None:
    engine = FakeEngine(start_s=5)
    async with rig(engine, min_idle=2) as pool:
        await asyncio.sleep(1)
        await pool.pool.close()
    assert engine.started == 0


async def test_closing_does_not_wait_for_resets() -> None:
    async with rig() as pool:
        await pool.run(b"slow reset")
        began = asyncio.get_running_loop().time()
        await pool.pool.close()
        assert asyncio.get_running_loop().time() - began < 1
        assert pool.seen.resets == []


async def test_a_run_that_ends_while_the_pool_drains_is_not_followed_by_a_reset() -> None:
    async with rig() as pool:
        await pool.client(b"hang")
        draining = pool.spawn(pool.pool.drain(30))
        await quiet()
        pool.container()._exit(b"")  # and no word on the reset
        began = asyncio.get_running_loop().time()
        await draining
        assert asyncio.get_running_loop().time() - began < 1


async def test_a_pool_that_is_closed_before_its_first_start_has_begun_counts_none() -> None:
    pool = PoolManager(FakeEngine().launcher(), PoolConfig())
    pool.start()
    assert pool.snapshot().starting == 2
    await pool.close()
    assert pool.snapshot().total == 0


async def test_closing_ends_even_if_the_engine_removes_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    engine = FakeEngine()
    pool = PoolManager(engine.launcher(), PoolConfig(min_idle=2, remove_timeout_s=10))
    async with pool:
        await quiet()
        engine.down = True
        began = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - began <= 21
    assert pool.snapshot().destroying == 2
    assert "could not remove these containers: c1, c2" in caplog.text


async def test_the_settings_are_checked_where_they_are_made() -> None:
    cases: list[dict[str, Any]] = [
        {"min_idle": 5, "max_containers": 4},
        {"min_idle": -1},
        {"max_containers": 0},
        {"max_uses": 0},
        {"lease_timeout_s": -1.0},
        {"max_age_s": float("nan")},
        {"start_timeout_s": 0.0},
    ]
    for wrong in cases:
        with pytest.raises(ValueError, match=next(iter(wrong))):
            PoolConfig(**wrong)
