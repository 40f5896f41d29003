"""Clients that hang up, dawdle or come in crowds: the others notice nothing, nothing is lost.

`PGEXEC_TEST_HANGUPS` is how many hang up, 300 unless told.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import resource
import secrets
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.server import GATE, read_answer, run_request, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.integration.server import Answer, Server, StartServer

HANGUPS = int(os.environ.get("PGEXEC_TEST_HANGUPS") or 300)
CONTAINERS = 3
POOL = {"POOL_MIN_IDLE": CONTAINERS, "POOL_MAX_CONTAINERS": CONTAINERS, "LEASE_TIMEOUT_S": 50}
WAITERS = "pgexec_waiters"
LEASED = "pgexec_containers{state=leased}"
REFUSALS = "pgexec_rejections_total{reason=saturated}"
MORE_DESCRIPTORS = 8
MORE_MIB = 24
CROWD = 2000
ENOUGH_FILES = CROWD + 500

pytestmark = pytest.mark.timeout(600 + HANGUPS)


class Held:
    """What the server's process holds."""

    def __init__(self, server: Server) -> None:
        proc = Path(f"/proc/{server.process.pid}")
        self.descriptors = sum(1 for _ in (proc / "fd").iterdir())
        pages = int((proc / "statm").read_text().split()[1])
        self.rss_mib = pages * resource.getpagesize() / (1 << 20)


async def holds_no_more(server: Server, before: Held) -> None:
    async def flat() -> bool:
        return Held(server).descriptors <= before.descriptors + MORE_DESCRIPTORS

    await until(flat, f"about {before.descriptors} descriptors, as before")
    now = Held(server)
    assert now.rss_mib <= before.rss_mib + MORE_MIB, (before.rss_mib, now.rss_mib)


async def is_whole(server: Server) -> None:
    """Show that every container that there should be can be had, all at once."""
    await server.at_rest()
    gates = [asyncio.create_task(server.output(GATE)) for _ in range(CONTAINERS)]
    await server.sees(LEASED, CONTAINERS)
    await server.open_gates()
    await asyncio.gather(*gates)
    await server.at_rest()


@contextlib.asynccontextmanager
async def polite_clients(server: Server, count: int = 2) -> AsyncIterator[Counter[str]]:
    """Run something again and again, and show that each answer is one's own; count them."""
    over = asyncio.Event()
    served: Counter[str] = Counter()

    async def client() -> None:
        while not over.is_set():
            token = secrets.token_hex(8)
            assert await server.output(f"print('{token}')") == f"{token}\n"
            served["runs"] += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(client())
        try:
            yield served
        finally:
            over.set()


# --- hanging up -----------------------------------------------------------------------------


async def before_the_body_ends(server: Server, chance: random.Random) -> None:
    request = run_request("print('never')")
    async with server.connection(request[: chance.randrange(1, len(request))]):
        await asyncio.sleep(chance.choice((0, 0.01)))


async def while_waiting_or_running(server: Server, chance: random.Random) -> None:
    """With three containers and more clients, some get one and some do not."""
    async with server.connection(run_request("import time; time.sleep(60)")):
        await asyncio.sleep(chance.uniform(0, 0.3))


async def while_running(server: Server, chance: random.Random) -> None:
    """By the stream, it is known that it runs, or that a busy machine had no container in time."""
    request = run_request("import time\nprint('on', flush=True)\ntime.sleep(60)")
    request = request.replace(b"\r\n", b"\r\nAccept: text/event-stream\r\n", 1)
    async with server.connection(request) as (reader, _), asyncio.timeout(60):
        told = b""
        while b'"on' not in told and b'"lease_timeout"' not in told:
            told += (piece := await reader.read(4096))
            assert piece, told


async def while_the_answer_is_sent(server: Server, chance: random.Random) -> None:
    async with server.connection(run_request("print('x' * 500_000)")) as (reader, _):
        async with asyncio.timeout(60):
            await reader.readexactly(chance.randrange(1, 20_000))


async def after_sending_all(server: Server, chance: random.Random) -> None:
    """At whatever moment of a short run that is."""
    async with server.connection(run_request("print('x' * 10_000)")):
        await asyncio.sleep(chance.uniform(0, 0.02))


HangUp = Callable[["Server", random.Random], Awaitable[None]]
STAGES: tuple[HangUp, ...] = (
    before_the_body_ends,
    while_waiting_or_running,
    while_running,
    while_the_answer_is_sent,
    after_sending_all,
)


async def test_clients_that_hang_up_at_every_stage_cost_nothing(start: StartServer) -> None:
    server = await start(**POOL)
    chance = random.Random(6)

    async def hang_up(times: int) -> None:
        for number in range(times):
            await STAGES[number % len(STAGES)](server, chance)

    await hang_up(2 * len(STAGES))
    await server.at_rest()
    before = Held(server)
    async with polite_clients(server) as served:
        await asyncio.gather(*(hang_up(HANGUPS // 4) for _ in range(4)))
    assert served["runs"] > 0
    await is_whole(server)
    await holds_no_more(server, before)
    now = await server.metrics()
    assert now[WAITERS] == 0
    assert now["pgexec_container_destroyed_total{reason=cancelled}"] > 0
    assert now["pgexec_container_destroyed_total{reason=protocol_error}"] == 0


# --- reading slowly -------------------------------------------------------------------------


async def test_who_reads_slowly_keeps_no_container_and_still_gets_all(start: StartServer) -> None:
    server = await start(**POOL)
    clients = [await dawdle(server, number) for number in range(12)]
    await server.sees("pgexec_runs_total{status=ok}", len(clients))
    # All have run, and none has been read: the containers are free for others.
    await server.at_rest()
    async with polite_clients(server) as served:
        await until(lambda: asyncio.sleep(0, served["runs"] >= 10), "runs beside them")
    for number, client in enumerate(clients):
        await read_after_all(client, number)
    await is_whole(server)


async def dawdle(server: Server, number: int) -> socket.socket:
    """Ask for far more than the connection holds, and read nothing of it."""
    loop = asyncio.get_running_loop()
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(0)
    await loop.sock_connect(client, ("127.0.0.1", server.port))
    await loop.sock_sendall(client, run_request(f"print('\\0 {number}' * 100_000)"))
    return client


async def read_after_all(client: socket.socket, number: int) -> None:
    """Read what `dawdle` asked for; it is whole, and one's own."""
    reader, writer = await asyncio.open_connection(sock=client)
    answer = await read_answer(reader)
    assert answer.json["data"] == f"\0 {number}" * 100_000 + "\n"
    writer.close()


# --- crowds ---------------------------------------------------------------------------------


@pytest.fixture
def _few_files_at_first() -> Iterator[None]:
    """Begin as most processes do, with a soft limit far below the hard one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < ENOUGH_FILES:
        pytest.skip(f"only {hard} files may be open at once")
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("_few_files_at_first")
async def test_two_thousand_connections_at_once(start: StartServer) -> None:
    server = await start(**POOL)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    await crowd_in(server)
    before = Held(server)  # with what the heap keeps of a crowd
    await crowd_in(server)
    await is_whole(server)
    await holds_no_more(server, before)


async def crowd_in(server: Server) -> Counter[str]:
    """Connect two thousand times, have all do nothing, then a few of them something, then all.

    Return what became of all.
    """
    async with contextlib.AsyncExitStack() as stack:
        connections = []
        for _ in range(CROWD // 50):
            opened = [stack.enter_async_context(server.connection()) for _ in range(50)]
            connections += [await one for one in opened]

        async def ask(number: int, request: bytes) -> Answer:
            reader, writer = connections[number]
            writer.write(request)
            return await read_answer(reader)

        async def all_ask(numbers: range, *, path: str) -> Counter[str]:
            ping = f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
            requests = {n: ping if path != "/run" else run_request(f"print({n})") for n in numbers}
            answers = await asyncio.gather(*(ask(n, request) for n, request in requests.items()))
            outputs = [f"{number}\n" if path == "/run" else "" for number in numbers]
            return Counter(map(judge, answers, outputs))

        assert (await all_ask(range(CROWD), path="/ping"))["served"] == CROWD
        assert Held(server).descriptors >= CROWD
        few = range(0, CROWD, 20)
        assert (await all_ask(few, path="/run"))["served"] == len(few)
        fates = await all_ask(range(CROWD), path="/run")
        assert fates["served"] >= CONTAINERS
        assert fates.total() == CROWD
        return fates


def judge(answer: Answer, output: str) -> str:
    """Hold an answer to what there is: one's own output, or a refusal that says when to return."""
    if answer.status == 200:
        assert answer.json.get("data", "") == output
        return "served"
    assert answer.status == 503, answer.body
    assert int(answer.headers["Retry-After"]) >= 1
    return answer.code


async def overloaded(
    server: Server, *, clients: int, waiting: int, enough: Callable[[Counter[str]], bool]
) -> Counter[str]:
    """Have clients ask again as soon as they are answered, until there is enough of it.

    Each answer is held to `judge`, and the queue to its bound all the while.
    """
    fates: Counter[str] = Counter()
    over = asyncio.Event()

    async def client(number: int) -> None:
        async with server.connection() as (reader, writer):
            while not over.is_set():
                token = f"{number}-{secrets.token_hex(4)}"
                writer.write(run_request(f"import time; time.sleep(0.1); print('{token}')"))
                answer = await read_answer(reader)
                fates[judge(answer, f"{token}\n")] += 1
                if answer.status != 200:
                    await asyncio.sleep(0.1)

    async def bounded() -> bool:
        now = await server.metrics()
        assert now[WAITERS] <= waiting
        assert now[LEASED] <= CONTAINERS
        return enough(fates)

    async with asyncio.TaskGroup() as group:
        for number in range(clients):
            group.create_task(client(number))
        try:
            await until(bounded, f"enough, but {fates}")
        finally:
            over.set()
    await is_whole(server)
    return fates


async def test_ten_times_the_capacity_is_served_or_told_when_to_come_back(
    start: StartServer,
) -> None:
    server = await start(**POOL, POOL_MAX_WAITING=CONTAINERS)
    await server.works()
    before = Held(server)
    fates = await overloaded(
        server,
        clients=10 * 2 * CONTAINERS,
        waiting=CONTAINERS,
        enough=lambda fates: fates["served"] >= 60 and fates["saturated"] >= 60,
    )
    assert set(fates) == {"served", "saturated"}
    await holds_no_more(server, before)


async def test_who_cannot_be_served_in_time_is_refused_before_it_waits(start: StartServer) -> None:
    """The queue has places for all of them, but at a tenth of a second each not time enough."""
    server = await start(**{**POOL, "LEASE_TIMEOUT_S": 0.5}, POOL_MAX_WAITING=1000)
    await overloaded(
        server,
        clients=100,
        waiting=1000,
        enough=lambda fates: fates["served"] >= 30 and fates["saturated"] >= 30,
    )
    assert (await server.metrics())[REFUSALS] >= 30
