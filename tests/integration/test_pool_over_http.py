"""The pool as clients see it: warm, fair, bounded, and never short of what it had."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.integration.server import GATE, run_request, until

if TYPE_CHECKING:
    from tests.integration.server import Server, StartServer

ONE = {"POOL_MIN_IDLE": 1, "POOL_MAX_CONTAINERS": 1}
NO_HURRY = {"LEASE_TIMEOUT_S": 50}
CLOCK = "import time; print(time.monotonic_ns())"
WAITERS = "pgexec_waiters"
LEASED = "pgexec_containers{state=leased}"


async def test_readyz_turns_200_when_as_many_as_wanted_are_idle(start: StartServer) -> None:
    server = await start(POOL_MIN_IDLE=3, ready=False)
    refusals = []

    async def is_ready() -> bool:
        answer = await server.get("/readyz")
        if answer.status != 200:
            refusals.append(answer)
        return answer.status == 200

    await until(is_ready, "ready")
    assert (await server.by_state())["idle"] >= 3
    assert len(await server.containers()) >= 3
    for refusal in refusals:
        assert (refusal.status, refusal.code) == (503, "not_ready")
        assert refusal.error.startswith(("warming up: ", "preparing the image "))
        assert "Retry-After" in refusal.headers


async def test_a_request_that_comes_before_the_pool_is_warm_is_served(start: StartServer) -> None:
    server = await start(ready=False)
    await server.works()


async def test_more_requests_than_containers_are_each_answered_once_and_with_their_own(
    server: Server,
) -> None:
    codes = [f"print({number} ** 2)" for number in range(60)]
    outputs = await asyncio.gather(*map(server.output, codes))
    assert outputs == [f"{number**2}\n" for number in range(60)]
    await server.at_rest()
    assert len(await server.containers()) <= 4


async def test_who_waits_is_served_in_the_order_of_coming(start: StartServer) -> None:
    server = await start(**ONE, **NO_HURRY)
    first = asyncio.create_task(server.output(GATE))
    await server.sees(LEASED, 1)
    waiting = []
    for number in range(6):
        waiting.append(asyncio.create_task(server.output(CLOCK)))
        await server.sees(WAITERS, number + 1)
    await server.open_gates()
    await first
    times = [int(output) for output in await asyncio.gather(*waiting)]
    assert times == sorted(times)


async def test_a_full_queue_refuses_at_once_and_says_when_to_come_back(start: StartServer) -> None:
    server = await start(**ONE, POOL_MAX_WAITING=2, **NO_HURRY)
    tasks = [asyncio.create_task(server.output(GATE))]
    await server.sees(LEASED, 1)
    for number in range(2):
        tasks.append(asyncio.create_task(server.output("print('served')")))
        await server.sees(WAITERS, number + 1)
    refusals = [await server.run("pass") for _ in range(3)]
    for refusal in refusals:
        assert (refusal.status, refusal.code) == (503, "saturated")
        assert int(refusal.headers["Retry-After"]) >= 1
        assert refusal.error.startswith("2 runs are already waiting for a container; ")
        assert "PGEXEC_POOL_MAX_CONTAINERS" in refusal.error
    assert (await server.get("/readyz")).status == 503
    assert (await server.get("/healthz")).status == 200
    await server.open_gates()
    assert await asyncio.gather(*tasks) == ["", "served\n", "served\n"]
    assert (await server.metrics())["pgexec_rejections_total{reason=saturated}"] == 3
    await server.ready()


async def test_who_waits_too_long_is_refused(start: StartServer) -> None:
    server = await start(**ONE, LEASE_TIMEOUT_S=0.2)
    first = asyncio.create_task(server.output(GATE))
    await server.sees(LEASED, 1)
    refusal = await server.run("pass")
    assert (refusal.status, refusal.code) == (503, "lease_timeout")
    assert refusal.error.startswith("no container came free within 0.2 s; ")
    assert "PGEXEC_POOL_MAX_CONTAINERS" in refusal.error
    assert int(refusal.headers["Retry-After"]) >= 1
    await server.open_gates()
    await first
    await server.at_rest()
    await server.works()


# --- clients that hang up -----------------------------------------------------------------


async def test_a_client_that_hangs_up_while_running_ends_its_run_and_its_container(
    start: StartServer,
) -> None:
    server = await start(**ONE, **NO_HURRY)
    before = set(await server.containers())
    async with server.connection(run_request("while True: pass")):
        await server.sees(LEASED, 1)
    await server.logged("request", status=499, code="client_gone")
    await server.works()
    await server.at_rest()
    assert not before & set(await server.containers())
    assert (await server.metrics())["pgexec_container_destroyed_total{reason=cancelled}"] == 1


async def test_a_client_that_hangs_up_while_waiting_leaves_the_queue(start: StartServer) -> None:
    server = await start(**ONE, **NO_HURRY)
    first = asyncio.create_task(server.output(GATE))
    await server.sees(LEASED, 1)
    async with server.connection(run_request("print(1)")):
        await server.sees(WAITERS, 1)
        last = asyncio.create_task(server.output("print('last')"))
        await server.sees(WAITERS, 2)
    await server.sees(WAITERS, 1)
    await server.open_gates()
    assert (await first, await last) == ("", "last\n")
    await server.at_rest()


async def test_clients_that_hang_up_at_any_moment_cost_no_slot(start: StartServer) -> None:
    server = await start(POOL_MIN_IDLE=3, POOL_MAX_CONTAINERS=3, **NO_HURRY)
    moments = random.Random(2)

    async def rude() -> None:
        request = run_request("import time; time.sleep(0.01); print('x' * 100_000)")
        sent = request[: moments.choice((len(request), len(request), moments.randrange(400)))]
        async with server.connection(sent):
            await asyncio.sleep(moments.choice((0, 0.005, 0.015, 0.05, 0.2)) * moments.random())

    async def polite(number: int) -> None:
        assert await server.output(f"print({number})") == f"{number}\n"

    for _ in range(10):
        await asyncio.gather(*(rude() for _ in range(5)), polite(7))
    await server.at_rest()
    assert len(await server.containers()) == 3
    gates = [asyncio.create_task(server.output(GATE)) for _ in range(3)]
    await server.sees(LEASED, 3)
    await server.open_gates()
    await asyncio.gather(*gates)


# --- recycling ----------------------------------------------------------------------------


async def test_a_container_is_used_again_and_shows_no_trace_of_the_run_before(
    start: StartServer,
) -> None:
    server = await start(**ONE)
    leave = await server.run("open('/tmp/mark', 'w').write('x'); import os; os.environ['A'] = 'b'")
    look = await server.run("import os; print(os.path.exists('/tmp/mark'), os.environ.get('A'))")
    assert look.json["data"] == "False None\n"
    assert await server.container_of(leave) == await server.container_of(look)


async def test_a_container_never_crosses_from_one_tenant_to_another(start: StartServer) -> None:
    server = await start(**ONE, API_KEYS="a:key-of-a,b:key-of-b")
    containers = []
    for key in ("key-of-a", "key-of-a", "key-of-b", "key-of-b", "key-of-a"):
        answer = await server.run("pass", key=key)
        assert answer.status == 200
        containers.append(await server.container_of(answer))
    first, again, other, other_again, back = containers
    assert first == again
    assert other == other_again
    assert len({first, other, back}) == 3
    await server.at_rest()
    assert (await server.metrics())["pgexec_container_destroyed_total{reason=evicted}"] == 2


async def test_a_container_never_crosses_from_one_user_of_a_key_to_another(
    start: StartServer,
) -> None:
    server = await start(**ONE, API_KEYS="a:key-of-a", TRUSTED_KEYS="a")
    containers = []
    for user in ({"user": "u1"}, {"user": "u1"}, {"user": "u2"}, {}, {"user": "u1"}):
        answer = await server.run("pass", key="key-of-a", **user)
        assert answer.status == 200
        containers.append(await server.container_of(answer))
    assert containers[0] == containers[1]
    assert len(set(containers)) == 4


@pytest.mark.parametrize("apart", ["keys", "users"])
async def test_the_endless_runs_of_one_tenant_leave_containers_to_another(
    start: StartServer, apart: str
) -> None:
    keys = {"API_KEYS": "a:1,b:2"} if apart == "keys" else {"API_KEYS": "a:1", "TRUSTED_KEYS": "a"}
    hostile: dict[str, str] = {"key": "1"} if apart == "keys" else {"key": "1", "user": "h"}
    other: dict[str, str] = {"key": "2"} if apart == "keys" else {"key": "1", "user": "o"}
    server = await start(
        POOL_MIN_IDLE=4, POOL_MAX_CONTAINERS=4, RUN_TIMEOUT_S=20, LEASE_TIMEOUT_S=5, **keys
    )
    loops = [
        asyncio.create_task(server.run("import time\ntime.sleep(60)", **hostile)) for _ in range(12)
    ]
    await server.sees("pgexec_containers{state=leased}", 3)
    for _ in range(10):
        answer = await server.run("print(1)", **other)
        assert (answer.status, answer.json["data"]) == (200, "1\n")
    late = [answer for answer in await asyncio.gather(*loops) if answer.status == 503]
    assert len(late) == 9
    for answer in late:
        assert answer.error.startswith("this tenant has 3 containers in use, as many as it may")


async def test_tenants_at_the_same_time_have_containers_of_their_own(start: StartServer) -> None:
    server = await start(POOL_MIN_IDLE=2, POOL_MAX_CONTAINERS=3, API_KEYS="a:1,b:2", **NO_HURRY)
    keys = [random.Random(number).choice("12") for number in range(40)]
    answers = await asyncio.gather(*(server.run("print(1)", key=key) for key in keys))
    assert {answer.status for answer in answers} == {200}
    users: dict[str, set[str]] = {}
    for key, answer in zip(keys, answers, strict=True):
        users.setdefault(await server.container_of(answer), set()).add(key)
    assert all(len(tenants) == 1 for tenants in users.values())
    await server.at_rest()


async def test_without_a_key_nothing_runs_where_keys_are_set(start: StartServer) -> None:
    server = await start(**ONE, API_KEYS="a:secret")
    for key in ("", "wrong", "a:secret"):
        answer = await server.run("pass", key=key)
        assert (answer.status, answer.code) == (401, "unauthorized")
    assert (await server.run("pass", key="secret")).status == 200
    assert (await server.metrics())["pgexec_leases_total{source=idle}"] == 1
    assert "secret" not in server.stderr


async def test_after_its_last_use_a_container_is_replaced(start: StartServer) -> None:
    server = await start(**ONE, MAX_USES=2)
    containers = [await server.container_of(await server.run("pass")) for _ in range(6)]
    assert containers[::2] == containers[1::2]
    assert len(set(containers)) == 3
    await server.at_rest()
    assert (await server.metrics())["pgexec_container_destroyed_total{reason=max_uses}"] == 3


# --- metrics ------------------------------------------------------------------------------

SOURCES = ("idle", "waited", "started")
LIMITS = ("timeout", "memory_limit", "output_limit", "killed")
TRAFFIC = {
    "ok": ("print(1)", 5),
    "error": ("1 / 0", 3),
    "timeout": ("while True: pass", 2),
    "memory_limit": ("x = []\nwhile True: x.append(b'x' * (8 << 20))", 1),
    "output_limit": ("while True: print('x' * 9999)", 1),
    "killed": ("import os; os.abort()", 2),
}


async def test_metrics_add_up_after_known_traffic(start: StartServer) -> None:
    server = await start(RUN_TIMEOUT_S=4, MEMORY_LIMIT="64MiB", **NO_HURRY)
    runs = [
        server.run(code, timeout_s=0.3 if status == "timeout" else 4)
        for status, (code, count) in TRAFFIC.items()
        for _ in range(count)
    ]
    statuses = Counter(answer.json["status"] for answer in await asyncio.gather(*runs))
    assert statuses == {status: count for status, (_, count) in TRAFFIC.items()}
    assert (await server.run("pass", timeout_s=-1)).status == 400
    await server.run("pass", fresh=True)
    await server.at_rest()

    now = await server.metrics()
    for status, count in statuses.items():
        expected = count + (status == "ok")
        assert now[f"pgexec_runs_total{{status={status}}}"] == expected
    total = sum(statuses.values()) + 1
    assert now["pgexec_requests_total{path=/run,status=200}"] == total
    assert now["pgexec_requests_total{path=/run,status=400}"] == 1
    assert sum(now.get(f"pgexec_leases_total{{source={name}}}", 0) for name in SOURCES) == total
    assert now["pgexec_run_duration_seconds_count"] == total
    assert now["pgexec_lease_wait_seconds_count"] == total
    destroyed = {
        name.partition("reason=")[2][:-1]: value
        for name, value in now.items()
        if name.startswith("pgexec_container_destroyed_total{")
    }
    for reason in ("timeout", "memory_limit", "output_limit", "killed"):
        assert destroyed.pop(reason) == statuses[reason]
    assert destroyed.pop("fresh") == 1
    assert now["pgexec_container_recycled_total"] == statuses["ok"] + statuses["error"]
    gone = sum(destroyed.values()) + 1 + sum(statuses[reason] for reason in LIMITS)
    there = len(await server.containers())
    assert now["pgexec_container_starts_total"] == gone + there
    assert now["pgexec_container_uses_count"] == gone
