"""An engine that creates badly, talks nonsense, or is another one than before."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from tests.chaos.proxy import FaultyProxy, Mischief
from tests.integration.server import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.chaos.bed import Bed
    from tests.chaos.conftest import MakeBed
    from tests.private_engine import PrivateEngine

CLIENTS = 5
LATE_S = 3.0
"""Longer than START_TIMEOUT_S."""
NETWORK = "pgexec-egress"
CIRCUIT = "pgexec_pool_backing_off"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def proxy(
    private_engine: PrivateEngine, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[FaultyProxy]:
    path = tmp_path_factory.mktemp("proxy") / "docker.sock"
    proxy = FaultyProxy(path, str(private_engine.socket))
    await proxy.up()
    yield proxy
    await proxy.down()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def proxied(make_bed: MakeBed, proxy: FaultyProxy) -> AsyncIterator[Bed]:
    """Have a server that sees the engine through the proxy."""
    async with make_bed(DOCKER_HOST=f"unix://{proxy.path}") as bed:
        yield bed


async def lose_all(bed: Bed) -> None:
    """Have every container replaced."""
    for one in await bed.server.containers():
        await bed.engine.client.remove(one)


@pytest.mark.parametrize("clients", [0, CLIENTS], ids=["idle", "under_load"])
@pytest.mark.parametrize("mischief", [one for one in Mischief if one is not Mischief.NONE])
async def test_creation_always(
    proxied: Bed, proxy: FaultyProxy, mischief: Mischief, clients: int
) -> None:
    if not proxied.long and (
        mischief is Mischief.LOSE or (clients == 0) is not (mischief is Mischief.FAIL)
    ):
        pytest.skip("in the long form only")

    async def always(bed: Bed) -> None:
        before = proxy.done
        proxy.delay_s = LATE_S
        proxy.always(mischief)
        bed.injected(0)
        try:
            await lose_all(bed)
            await bed.watch.says(ready=False)
            await asyncio.sleep(max(bed.hold_s, LATE_S if mischief is Mischief.DELAY else 0))
        finally:
            proxy.mischief = iter(())
        bed.injected_before(proxy.done - before)

    await proxied.suffers(f"create: always {mischief}", always, clients=clients)


async def test_creation_fails_one_time_in_three(proxied: Bed, proxy: FaultyProxy) -> None:
    async def sometimes(bed: Bed) -> None:
        before = proxy.done
        proxy.mischief = itertools.cycle((Mischief.FAIL, Mischief.NONE, Mischief.NONE))
        assert bed.load is not None
        bed.injected(0)
        await bed.load.ran(more=30)
        proxy.mischief = iter(())
        bed.injected_before(proxy.done - before)

    await proxied.suffers("create: fail one time in three", sometimes, clients=CLIENTS)


async def test_a_circuit_opens_with_one_reason_and_closes_by_itself(
    proxied: Bed, proxy: FaultyProxy
) -> None:
    server = proxied.server
    failures = "pgexec_container_start_failures_total{reason=engine_error}"
    logged = len(server.log)
    before = (await server.metrics()).get(failures, 0)
    reason = "containers fail to start: create: the chaos has it so"

    async def tells() -> bool:
        unready = await server.get("/readyz")
        return unready.status == 503 and unready.error == reason

    proxy.always(Mischief.FAIL)
    try:
        await lose_all(proxied)
        await until(tells, reason)
        await server.sees(CIRCUIT, 1)
        await asyncio.sleep(3)
    finally:
        proxy.mischief = iter(())
    tried = (await server.metrics())[failures] - before
    await server.ready()
    await server.sees(CIRCUIT, 0)
    told = [one["event"] for one in server.log[logged:]]
    assert told.count(reason) == 1
    assert 2 <= tried <= 5, "half a second, one, two, four: each try waits longer"


async def test_the_api_version_changes(proxied: Bed, proxy: FaultyProxy) -> None:
    async def changes(bed: Bed) -> None:
        bed.injected()
        proxy.downgraded = True
        try:
            await bed.watch.says(ready=False)
            await bed.watch.says(ready=True)  # in the older version
            await lose_all(bed)
            await bed.watch.says(ready=True, within_s=10)
        finally:
            bed.injected()
            proxy.downgraded = False
        await asyncio.sleep(bed.hold_s)

    await proxied.suffers("the API version changes", changes, clients=CLIENTS)


async def test_the_network_is_gone(make_bed: MakeBed) -> None:
    async def goes(bed: Bed) -> None:
        call = bed.engine.client.call
        assert bed.load is not None
        bed.load.wants_fresh = False  # where something starts all the time, some are always in it
        bed.injected()

        async def removed() -> bool:
            _, network = await call("GET", f"/networks/{NETWORK}")
            for one in network["Containers"]:
                leaving = {"Container": one, "Force": True}
                await call("POST", f"/networks/{NETWORK}/disconnect", leaving)
            return (await call("DELETE", f"/networks/{NETWORK}"))[0] == 204

        await until(removed, "the network is gone")
        bed.load.wants_fresh = True
        await lose_all(bed)

    async with make_bed(NETWORK="egress") as bed:
        await bed.suffers("the network is gone", goes, clients=3)
