"""Cancelling at every step, and at random: no slot is lost, none is shared, none waits forever."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pgexec.advise.clock import ClockLoop
from pool.errors import ContainerLost, EngineError, PoolClosed, PoolError, TenantSaturated
from pool.job import Job, Status
from pool.observer import Source
from pool.sizing.recycling import Reason
from tests.unit.fake_engine import FakeEngine
from tests.unit.rig import Rig, quiet, rig


async def still_serves(pool: Rig) -> None:
    """See that every slot of the pool can be used at the same time."""
    clients = [
        await pool.client(b"hang", tenant="last") for _ in range(pool.pool.config.max_containers)
    ]
    await asyncio.sleep(1)
    assert pool.now.leased == pool.pool.config.max_containers
    for container in pool.engine.containers.values():
        container.finish()
    for _, result in await asyncio.gather(*clients):
        assert result.status is Status.OK


async def steps(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.clock
@pytest.mark.parametrize("count", range(25))
@pytest.mark.parametrize("kind", ["idle", "waiting", "starting", "evicting"])
async def test_a_client_cancelled_after_any_number_of_steps_costs_no_slot(
    kind: str, count: int
) -> None:
    engine = FakeEngine()
    async with rig(engine, min_idle=0 if kind == "starting" else 1, max_containers=2) as pool:
        options: dict[str, Any] = {}
        blockers = []
        if kind == "waiting":
            blockers = [await pool.client(b"hang") for _ in range(2)]
        if kind == "evicting":
            for tenant in "ab":
                await pool.run(tenant=tenant)
                await quiet()
            options["tenant"] = "c"
        client = pool.spawn(pool.run(**options))
        await steps(2)
        for container in list(engine.containers.values())[: len(blockers)]:
            container.finish()
        await steps(count)
        client.cancel()
        await asyncio.wait([client, *blockers])
        await pool.check()
        await still_serves(pool)


@pytest.mark.clock
async def test_a_cancelled_run_ends_with_its_container() -> None:
    async with rig() as pool:
        client = await pool.client(b"hang")
        client.cancel()
        with pytest.raises(asyncio.CancelledError):
            await client
        await quiet()
        assert pool.seen.destroys == {Reason.CANCELLED: 1}
        await still_serves(pool)


@pytest.mark.clock
async def test_a_run_cancelled_while_its_job_is_being_written_costs_its_container() -> None:
    async with rig(FakeEngine(write_gate=asyncio.Event())) as pool:
        client = await pool.client()
        client.cancel()
        await asyncio.wait([client])
        await quiet()
        assert pool.seen.destroys == {Reason.CANCELLED: 1}
        pool.engine.write_gate = None


@pytest.mark.clock
async def test_a_cancelled_waiter_hands_on_the_container_that_it_was_just_given() -> None:
    async with rig(max_containers=1) as pool:
        leased = pool.pool.lease(tenant="a")
        await leased.__aenter__()
        first = await pool.client(tenant="a", name="first")
        second = await pool.client(tenant="a", name="second")
        await leased.__aexit__(None, None, None)  # gives it to the first, whose turn is yet to come
        first.cancel()
        assert (await second)[1].status is Status.OK
        assert first.cancelled()
        assert pool.served == ["second"]
        assert pool.engine.started == 1


@pytest.mark.clock
async def test_a_cancelled_waiter_hands_on_no_container_that_was_lost_meanwhile() -> None:
    async with rig(max_containers=1) as pool:
        lease = pool.pool.lease()
        await lease.__aenter__()
        container = lease.container
        waiting = await pool.client()
        await lease.__aexit__(None, None, None)
        container._fail(ContainerLost("between the grant and the waiter's turn"))
        waiting.cancel()
        await asyncio.wait([waiting])
        await quiet()
        assert pool.seen.destroys == {Reason.LOST: 1}
        await still_serves(pool)


@pytest.mark.clock
async def test_a_waiter_that_was_cancelled_is_not_given_anything_before_it_knows() -> None:
    async with rig(max_containers=1) as pool:
        leased = pool.pool.lease()
        await leased.__aenter__()
        waiting = await pool.client()
        waiting.cancel()
        await leased.__aexit__(None, None, None)
        assert pool.now.idle == 1
        await asyncio.wait([waiting])


@pytest.mark.clock
async def test_leaving_a_lease_cannot_be_cancelled() -> None:
    async with rig() as pool:
        lease = pool.pool.lease()
        await lease.__aenter__()
        await lease.run(Job(b"ok"))
        with pytest.raises(StopIteration):
            lease.__aexit__(None, None, None).send(None)


@pytest.mark.clock
async def test_a_drain_that_is_cancelled_can_be_finished_by_another() -> None:
    async with rig() as pool:
        await pool.client(b"hang")
        draining = pool.spawn(pool.pool.drain(30))
        await quiet()
        draining.cancel()
        await asyncio.wait([draining])
        assert draining.cancelled()
        assert pool.now.leased == 1
        await pool.pool.close()
        assert pool.now.total == 0


@pytest.mark.clock
async def test_closing_between_the_grant_and_the_waiters_turn_is_an_error_of_the_pools() -> None:
    async with rig(max_containers=1) as pool:
        lease = pool.pool.lease()
        await lease.__aenter__()
        waiting = await pool.client()
        await lease.__aexit__(None, None, None)
        pool.pool._fleet.refuse()
        pool.pool._fleet.revoke()
        await quiet()
        assert isinstance(waiting.exception(), PoolClosed)


# --- at random ----------------------------------------------------------------------------------

CODES = [
    *(b"ok", b"ok", b"ok", b"error", b"timeout", b"killed", b"dirty", b"hang", b"slow reset"),
    *(b"die", b"die in a frame", b"garbage", b"lie about the run", b"exit twice", b"flood"),
    *(b"die in reset", b"malformed exit", b"both"),
]
moments = st.integers(0, 60).map(lambda tenths: tenths / 10)


@dataclass(frozen=True)
class Client:
    """Someone who comes at a moment, and perhaps goes at another."""

    comes_at: float
    stays_s: float | None
    tenant: str
    kind: str
    code: bytes
    timeout_s: float


clients = st.builds(
    Client,
    comes_at=moments,
    stays_s=st.none() | moments,
    tenant=st.sampled_from("aaabc"),
    kind=st.sampled_from(["plain", "plain", "plain", "fresh"]),
    code=st.sampled_from(CODES),
    timeout_s=st.sampled_from([0.5, 5.0, 30.0]),
)
errors = st.none() | st.just(EngineError("scripted"))
engines = st.builds(
    FakeEngine,
    start_s=st.sampled_from([0.0, 0.3, 2.0]),
    remove_s=st.sampled_from([0.0, 0.3, 2.0]),
    start_errors=st.lists(errors, max_size=6).map(deque),
    remove_errors=st.lists(errors, max_size=3).map(deque),  # a closing pool tries four times
    boots=st.lists(st.sampled_from(["ready", "silent", "dies", "garbage"]), max_size=6).map(deque),
    chunk_bytes=st.sampled_from([1, 5, 1 << 16]),
    auto_remove=st.booleans(),
)
configs = st.fixed_dictionaries(
    {
        "min_idle": st.integers(0, 2),
        "autoscale": st.booleans(),
        "max_containers": st.integers(2, 4),
        "max_waiting": st.sampled_from([2, 3, 100]),
        "tenant_max_running": st.sampled_from([0, 0, 1, 3]),
        "max_uses": st.sampled_from([1, 3, 100]),
        "max_age_s": st.sampled_from([3.0, 1000.0]),
        "idle_timeout_s": st.sampled_from([1.0, 1000.0]),
        "start_concurrency": st.integers(1, 3),
    }
)


class Crowd:
    """Clients on a pool, and the order in which they came and were served."""

    def __init__(self, pool: Rig) -> None:
        self.pool = pool
        self.came: dict[tuple[str, str], list[int]] = {}
        self.served: dict[tuple[str, str], list[int]] = {}
        self.held: set[str] = set()
        self.present: Counter[str] = Counter()

    async def visit(self, number: int, client: Client) -> None:
        await asyncio.sleep(client.comes_at)
        visit = asyncio.create_task(self._visit(number, client))
        try:
            if client.stays_s is None:
                await visit
            else:
                done, _ = await asyncio.wait([visit], timeout=client.stays_s)
                if not done:
                    visit.cancel()
                await visit
        except (PoolError, asyncio.CancelledError):
            pass

    async def _visit(self, number: int, client: Client) -> None:
        limit = self.pool.pool.config.tenant_max_running
        self.present[client.tenant] += 1
        try:
            await self._run(number, client)
        except TenantSaturated:
            assert limit
            assert self.present[client.tenant] > limit
            raise
        finally:
            self.present[client.tenant] -= 1

    async def _run(self, number: int, client: Client) -> None:
        pool, limit = self.pool, self.pool.pool.config.tenant_max_running
        queue = (client.tenant, client.kind)
        self.came.setdefault(queue, []).append(number)
        async with pool.pool.lease(
            tenant=client.tenant,
            fresh=client.kind == "fresh",
            timeout_s=client.timeout_s,
        ) as lease:
            self.served.setdefault(queue, []).append(number)
            assert 0 < pool.pool.quota._runs.get(client.tenant, 1) <= (limit or 1)
            container = lease.container
            assert container.id not in self.held
            assert container.uses == 0 or lease.source is not Source.STARTED
            assert container.uses == 0 or client.kind == "plain"
            self.held.add(container.id)
            try:
                job = Job(client.code, stdin=client.tenant.encode(), timeout_s=3)
                await lease.run(job)
            finally:
                self.held.discard(container.id)

    def check_order(self) -> None:
        """See that among equals nobody was served before someone who had come earlier."""
        for (tenant, kind), served in self.served.items():
            place = {number: at for at, number in enumerate(self.came[tenant, kind])}
            assert [place[number] for number in served] == sorted(
                place[number] for number in served
            )


async def scenario(engine: FakeEngine, config: dict[str, Any], visits: list[Client]) -> None:
    if not engine.auto_remove:
        # Else a failed start would leave a container behind that only the sweep can find.
        engine.remove_errors.clear()
    async with rig(engine, lease_timeout_s=20.0, **config) as pool:
        crowd = Crowd(pool)
        async with asyncio.TaskGroup() as group:
            for number, client in enumerate(visits):
                group.create_task(crowd.visit(number, client))
        crowd.check_order()
        await asyncio.sleep(200)  # whatever was scripted to fail has failed
        assert pool.now.waiting == 0
        assert pool.now.leased == 0
        assert pool.pool.quota._runs == {}
        assert list(pool.pool._waiting) == []
        if config["min_idle"]:
            # Where they live hardly longer than they take to start, now and then there is none.
            assert config["max_age_s"] < 100 or (
                pool.now.ready and pool.now.idle >= config["min_idle"]
            )
        engine.boots.clear()
        engine.start_errors.clear()
        if config["max_age_s"] > 100:
            await pool.check()
            await still_serves_slowly(pool)
        else:
            # Old containers are being replaced all the time.
            await pool.pool.close()


async def still_serves_slowly(pool: Rig) -> None:
    config = pool.pool.config
    limit = config.tenant_max_running or config.max_containers
    count = min(config.max_containers, config.max_waiting, limit)
    visits = [await pool.client(b"hang", tenant="z", timeout_s=100) for _ in range(count)]
    await asyncio.sleep(20)
    assert pool.now.leased == count
    for container in pool.engine.containers.values():
        if container.busy:
            container.finish()
    for _, result in await asyncio.gather(*visits):
        assert result.status is Status.OK
    await asyncio.sleep(100)


@pytest.mark.slow
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(engines, configs, st.lists(clients, max_size=14))
def test_random_clients_cancels_and_failures_leave_the_books_right(
    engine: FakeEngine, config: dict[str, Any], visits: list[Client]
) -> None:
    with asyncio.Runner(loop_factory=ClockLoop) as runner:
        runner.run(scenario(engine, config, visits))
