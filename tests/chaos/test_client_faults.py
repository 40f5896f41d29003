"""What clients do to a server, for real, and others beside them, who must not notice.

`tests/integration/test_clients.py` has the same on the engine that everybody shares, where
neither root nor an engine of one's own is needed.
"""

from __future__ import annotations

import asyncio
import random
import resource
from typing import TYPE_CHECKING

import pytest

from tests.chaos.bed import count
from tests.chaos.load import Load
from tests.integration.server import cell_request, until
from tests.integration.test_clients import (
    CROWD,
    ENOUGH_FILES,
    STAGES,
    WAITERS,
    crowd_in,
    dawdle,
    read_after_all,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.chaos.bed import Bed
    from tests.chaos.conftest import MakeBed
    from tests.integration.test_clients import HangUp

AT_ONCE = 4
DAWDLERS = 12
CAPACITY = 4
MAX_WAITING = 4


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.__name__)
async def test_clients_hang_up(bed: Bed, stage: HangUp) -> None:
    each = (1000 if bed.long else 100) // len(STAGES) // AT_ONCE
    chance = random.Random()

    async def some(bed: Bed) -> None:
        for _ in range(each):
            bed.injected()
            await stage(bed.server, chance)

    async def hang_up(bed: Bed) -> None:
        await asyncio.gather(*(some(bed) for _ in range(AT_ONCE)))

    await bed.suffers(f"hanging up {stage.__name__.replace('_', ' ')}", hang_up, clients=2)


async def test_clients_hang_up_in_a_cell(bed: Bed) -> None:
    """The session goes on with its state, once the cell that nobody waits for has ended."""
    chance = random.Random()

    async def hang_up(bed: Bed) -> None:
        opened = await bed.server.request("POST", "/sessions", json={})
        path = f"{opened.headers['Location']}/run"
        await bed.server.request("POST", path, json={"code": "x = 0"})
        for turn in range(100 if bed.long else 10):
            code = f"x = {turn}\nimport time\nwhile True: time.sleep(0.01)"
            bed.injected()
            async with bed.server.connection(cell_request(path, code)):
                await asyncio.sleep(chance.uniform(0, 0.3))

            async def goes_on(turn: int = turn) -> bool:
                answer = await bed.server.request("POST", path, json={"code": "x"})
                if answer.status == 409:
                    return False
                assert not answer.json["restarted"]
                return int(answer.json["value"]) in (turn - 1, turn)  # it may not have begun

            await until(goes_on, "the session takes cells again", within_s=5)
        await bed.server.request("DELETE", opened.headers["Location"])

    await bed.suffers("hanging up in a cell", hang_up, clients=2)


async def test_clients_read_slowly(bed: Bed) -> None:
    async def slowly(bed: Bed) -> None:
        bed.injected(DAWDLERS)
        readers = [await dawdle(bed.server, number) for number in range(DAWDLERS)]
        assert bed.load is not None
        await bed.load.ran(more=20)
        for number, reader in enumerate(readers):
            await read_after_all(reader, number)

    await bed.suffers("the answer is read slowly", slowly, clients=2)


@pytest.fixture
def _many_files() -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limits[1] < ENOUGH_FILES:
        pytest.skip(f"only {limits[1]} files may be open at once")
    resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1], limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.usefixtures("_many_files")
async def test_two_thousand_connections(make_bed: MakeBed) -> None:
    async def come(bed: Bed) -> None:
        bed.injected(CROWD)
        fates = await crowd_in(bed.server)
        assert bed.row is not None
        bed.row.in_flight += fates.total()
        bed.row.once += fates.total()
        bed.row.refused += fates.total() - fates["served"]

    async with make_bed(LEASE_TIMEOUT_S=50) as bed:
        await crowd_in(bed.server)  # the heap keeps something of the first
        await bed.suffers("2,000 connections at once", come, clients=2)


async def test_ten_times_the_capacity(make_bed: MakeBed) -> None:
    """Each client asks for a hundredth of a second and pauses for a tenth when it is refused."""

    async def come(bed: Bed) -> None:
        async with Load(bed.server, 10 * CAPACITY) as crowd:
            bed.injected(10 * CAPACITY)
            assert bed.row is not None
            bed.row.in_flight += 10 * CAPACITY
            over = asyncio.get_running_loop().time() + (60 if bed.long else 3)
            while asyncio.get_running_loop().time() < over:
                assert (await bed.server.metrics())[WAITERS] <= MAX_WAITING
        count(crowd, bed.row)
        assert not crowd.problems, crowd.problems

    async with make_bed(POOL_MAX_CONTAINERS=CAPACITY, POOL_MAX_WAITING=MAX_WAITING) as bed:
        await bed.suffers("ten times the capacity", come, clients=2)
        assert bed.row is not None
        assert bed.row.refused
