"""Sessions on a real engine: state, limits, hostile cells, and what is left of them: nothing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.conftest import LOCAL
from tests.integration.server import until

if TYPE_CHECKING:
    from tests.integration.server import Answer, Server, StartServer


async def opened(server: Server, **body: Any) -> str:
    answer = await server.request("POST", "/sessions", json=body)
    assert answer.status == 201, answer.body
    return str(answer.json["id"])


async def cell(server: Server, name: str, code: str, **fields: Any) -> Answer:
    return await server.request("POST", f"/sessions/{name}/run", json={"code": code, **fields})


async def nothing_is_left(server: Server) -> None:
    async def left() -> bool:
        states = await server.by_state()
        return not states["session"] and not states["destroying"] and not states["leased"]

    await until(left, "sessions are gone", within_s=30)


async def test_state_stays_until_the_session_is_deleted(server: Server) -> None:
    name = await opened(server, files=[{"name": "a.txt", "content": "1"}], env={"E": "2"})
    code = "import os, threading\nx = open('a.txt').read() + os.environ['E']\nx"
    assert (await cell(server, name, code)).json["value"] == "'12'"
    assert (await cell(server, name, "x += '3'; x")).json["value"] == "'123'"
    assert (await server.by_state())["session"] == 1
    other = await opened(server)
    assert (await cell(server, other, "import os; os.path.exists('a.txt')")).json[
        "value"
    ] == "False"
    for one in (name, other):
        assert (await server.request("DELETE", f"/sessions/{one}")).status == 204
    await nothing_is_left(server)


async def test_a_session_outlives_its_limits_and_tells_when_it_began_anew(server: Server) -> None:
    name = await opened(server)
    await cell(server, name, "import time; x = 1; open('kept', 'w').close()")
    late = (await cell(server, name, "time.sleep(30)", timeout_s=0.2)).json
    assert (late["status"], late["exit_code"]) == ("timeout", 1)
    assert (await cell(server, name, "x")).json["value"] == "1"
    hog = (await cell(server, name, "a = []\nwhile True: a.append(bytearray(1 << 20))")).json
    assert hog["status"] == "memory_limit"
    anew = (await cell(server, name, "import os; os.listdir()")).json
    assert (anew["value"], anew["restarted"]) == ("['kept']", True)
    cut = (await cell(server, name, "import os; os.closerange(0, 1024)")).json
    assert (cut["status"], cut["signal"]) == ("killed", 9)
    assert "closed the descriptors" in cut["error"]
    await server.request("DELETE", f"/sessions/{name}")
    await nothing_is_left(server)


@pytest.mark.parametrize(
    "code",
    [
        "import os\nwhile True:\n    try: os.fork()\n    except OSError: break",
        "import os, signal; os.kill(-1, signal.SIGKILL)",
        "import os; os.closerange(0, 1024)",
        "import builtins; builtins.open = builtins.print = None; del builtins.len",
        "import sys; sys.modules.clear()",
        "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass",
        "import os\nwith open('big', 'wb') as file:\n    while True: file.write(bytes(1 << 20))",
        """import threading, os
def flood():
    while True: os.write(1, b"x" * 65536)
threading.Thread(target=flood, daemon=True).start()""",
        "import sys; sys.setrecursionlimit(10**9)\ndef f(): f()\nf()",
        """import os
for fd in range(3, 64):
    try: os.write(fd, b"\\xff" * 999)
    except OSError: pass""",
    ],
)
async def test_no_cell_takes_more_than_its_own_interpreter(server: Server, code: str) -> None:
    name = await opened(server)
    await cell(server, name, code, timeout_s=1)
    await asyncio.sleep(0.2)
    after = await cell(server, name, "40 + 2", timeout_s=5)
    assert after.status == 200
    if after.json["value"] is None:  # the one before has broken its interpreter, not the session
        after = await cell(server, name, "import os; os._exit(0)")
        after = await cell(server, name, "40 + 2")
    assert after.json["value"] == "42"
    await server.request("DELETE", f"/sessions/{name}")
    await nothing_is_left(server)
    await server.works()


async def test_files_of_a_session_full_of_processes_are_refused_with_the_cause(
    server: Server,
) -> None:
    name = await opened(server)
    fill = "import subprocess\nopen('a.txt', 'w').close()\nsleepers = []\ntry:\n"
    fill += "    while True: sleepers.append(subprocess.Popen(['sleep', '99']))\n"
    assert (await cell(server, name, f"{fill}except OSError: pass")).json["status"] == "ok"
    cause = "the session has too many processes or threads"
    asked = await cell(server, name, "7", collect=["a.txt"])
    assert (asked.json["value"], asked.json["files"]) == ("7", [])
    assert asked.json["files_omitted"] == f"they could not be read: {cause}"
    given = {"name": "b.txt", "content": "b"}
    refused = await cell(server, name, "8", files=[given])
    assert (refused.status, cause in refused.json["error"]) == (400, True)
    await cell(server, name, "for one in sleepers: one.kill(); one.wait()")
    assert (await cell(server, name, "9", files=[given])).json["value"] == "9"
    await server.request("DELETE", f"/sessions/{name}")
    await nothing_is_left(server)


async def test_a_session_ends_when_it_is_idle_and_with_its_container(start: StartServer) -> None:
    server = await start(**LOCAL)
    idle, lost = await opened(server, idle_timeout_s=1), await opened(server)
    ran = await cell(server, lost, "1")
    entry = await server.logged("request", request_id=ran.headers["X-Request-ID"])
    await server.engine.remove(entry["container"])

    async def ended() -> bool:
        answers = [await server.get(f"/sessions/{name}") for name in (idle, lost)]
        return [answer.json.get("reason") for answer in answers] == ["idle", "lost"]

    await until(ended, "both have ended", within_s=20)
    await nothing_is_left(server)
