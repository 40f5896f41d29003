"""Many inputs of one request against real containers: quota, fairness, and ends in the middle."""

from __future__ import annotations

import asyncio
import json
import signal
from typing import TYPE_CHECKING, Any

from tests.integration.server import GATE, run_request, until

if TYPE_CHECKING:
    from tests.integration.server import Server, StartServer

ECHO = "print(input()[::-1])"
HOLD = GATE + "print(input())"
"""Prints its input once the gate of its container is open."""


async def many(server: Server, code: str, stdins: list[str], **fields: Any) -> Any:
    answer = await server.run(code, stdins=stdins, **fields)
    assert answer.status == 200, answer.body
    assert len(answer.json["results"]) == len(stdins)
    return answer.json


async def leased(server: Server, count: int) -> None:
    async def are() -> bool:
        return (await server.by_state())["leased"] == count

    await until(are, f"{count} containers are leased")


async def test_a_hundred_inputs_are_runs_of_their_own_in_order(server: Server) -> None:
    stdins = [f"input {number}\n" for number in range(100)]
    expected = [f"{text.strip()[::-1]}\n" for text in stdins]
    expected[17] = "wrong\n"
    answer = await many(
        server,
        "import os, sys\n"
        "print(input()[::-1])\n"
        "open('seen', 'a').write('x'); open('/tmp/seen', 'a').write('x')\n"
        "print(open('seen').read(), open('/tmp/seen').read(), open('in').read(), "
        "sys.argv[1:], os.environ['E'], file=sys.stderr)",
        stdins,
        expected=expected,
        files=[{"name": "in", "content": "given"}],
        args=["a"],
        env={"E": "e"},
        collect=["seen", "in"],
    )
    assert [one["matches"] for one in answer["results"]] == [n != 17 for n in range(100)]
    assert (answer["passed"], answer["first_failure"]) == (99, 17)
    assert {one["stderr"] for one in answer["results"]} == {"x x given ['a'] e\n"}
    assert all(one["files"][0]["content"] == "x" for one in answer["results"])
    await server.at_rest()


async def test_it_takes_all_containers_that_there_may_be(server: Server) -> None:
    task = asyncio.create_task(many(server, HOLD, [str(number) for number in range(6)]))
    await leased(server, 4)  # two were idle, and two more were started for it
    await server.open_gates()
    answer = await opening(server, task)
    assert [one["stdout"] for one in answer["results"]] == [f"{number}\n" for number in range(6)]


async def opening(server: Server, task: asyncio.Task[Any]) -> Any:
    """Open gates again and again until a request has its answer."""

    async def ended() -> bool:
        await server.open_gates()
        return task.done()

    await until(ended, "the answer")
    return await task


async def test_a_tenant_has_no_more_at_once_than_its_share_and_single_runs_pass(
    start: StartServer,
) -> None:
    server = await start(API_KEYS="alice:one,bob:two", POOL_MIN_IDLE=4, POOL_MAX_CONTAINERS=4)
    stdins = [str(number) for number in range(100)]
    code = "import time; time.sleep(0.1); print(input())"
    task = asyncio.create_task(server.run(code, key="one", stdins=stdins))
    most, rounds = 0, 0
    while not task.done() and rounds < 10:
        most = max(most, (await server.by_state())["leased"])
        answer = await server.run("print(1)", key="two")
        assert (answer.status, answer.json["status"]) == (200, "ok")
        same = await server.run("print(2)", key="one")
        assert (same.status, same.json["status"]) == (200, "ok")
        rounds += not task.done()
    assert rounds > 0
    assert 0 < most <= 4
    assert [one["stdout"] for one in (await task).json["results"]] == [f"{n}\n" for n in stdins]

    holding = asyncio.create_task(server.run(HOLD, key="one", stdins=stdins[:8]))
    await leased(server, 3)
    assert (await server.metrics())["pgexec_waiters"] == 0
    assert (await server.run("print(1)", key="two")).json["stdout"] == "1\n"
    assert (await opening(server, holding)).json["passed"] == 8


async def test_the_quota_holds_for_it_and_a_full_one_is_a_429(start: StartServer) -> None:
    server = await start(API_KEYS="alice:one,bob:two", TENANT_MAX_RUNNING=2)
    holding = asyncio.create_task(server.run(HOLD, key="one", stdins=["a", "b", "c"]))
    await leased(server, 2)
    single = await server.run("print(1)", key="one")
    batch = await server.run("print(1)", key="one", stdins=["a"])
    assert [(one.status, one.code) for one in (single, batch)] == [(429, "too_many_runs")] * 2
    assert (await opening(server, holding)).json["passed"] == 3
    await server.at_rest()


async def test_it_stops_at_the_first_failure(server: Server) -> None:
    code = "n = int(input())\nif n == 3: raise SystemExit(1)\nif n > 3:\n    while True: pass"
    answer = await many(server, code, [str(n) for n in range(50)], stop_on="first_failure")
    statuses = [one["status"] for one in answer["results"]]
    assert statuses == ["ok"] * 3 + ["error"] + ["stopped"] * 46
    assert answer["first_failure"] == 3
    await server.at_rest()


async def test_a_client_that_hangs_up_ends_all_runs(server: Server) -> None:
    data = run_request("while True: pass", stdins=["a"] * 100)
    async with server.connection(data):
        await leased(server, 4)
    await leased(server, 0)
    await server.at_rest()
    await server.works()


async def test_a_container_that_is_killed_costs_its_input_only(start: StartServer) -> None:
    server = await start(POOL_MIN_IDLE=1, POOL_MAX_CONTAINERS=1)
    task = asyncio.create_task(many(server, HOLD, ["a", "b", "c"]))
    await leased(server, 1)
    (container,) = await server.containers()
    await server.engine.remove(container)
    answer = await opening(server, task)
    first, *others = answer["results"]
    assert (first["status"], first["code"], first["http_status"]) == ("lost", "container_lost", 502)
    assert [one["stdout"] for one in others] == ["b\n", "c\n"]
    assert (answer["passed"], answer["first_failure"]) == (2, 0)


async def test_a_drain_lets_what_runs_end_and_refuses_the_rest(start: StartServer) -> None:
    server = await start(POOL_MIN_IDLE=2, POOL_MAX_CONTAINERS=2)
    task = asyncio.create_task(many(server, HOLD, ["a", "b", "c", "d"]))
    await leased(server, 2)
    server.process.send_signal(signal.SIGTERM)
    await server.logged("draining")
    await server.open_gates()
    results = (await task)["results"]
    assert [one["status"] for one in results] == ["ok", "ok", "refused", "refused"]
    assert {one["code"] for one in results[2:]} == {"draining"}
    assert await server.ended() == 0


async def test_results_come_as_events(server: Server) -> None:
    data = json.dumps({"language": "python", "code": ECHO, "stdins": ["ab", "cd"]}).encode()
    answer = await server.request(
        "POST",
        "/run",
        data=data,
        headers={"Content-Type": "application/json", "Accept": "text/event-stream"},
    )
    *_, before, end, _ = answer.body.decode().split("\n\n")
    assert before.startswith("event: result\ndata: {")
    assert end == 'event: end\ndata: {"passed":2,"first_failure":null}'
