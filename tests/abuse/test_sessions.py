"""The same catalogue inside the cells of sessions, and what another tenant sees of it: nothing.

Each cell ends as the contract says, and afterwards the session goes on, at times with a new
interpreter (`restarted`), or is 410 with the reason. One server serves all of it.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from typing import TYPE_CHECKING, Any

import pytest

from tests.abuse.syscalls import PRELUDE
from tests.abuse.test_escape import ATTEMPT, FILES, SOCKETS, SYSTEM_CALLS, USERS
from tests.abuse.test_leftovers import DEEPEN, FOOTPRINT, LEAVE, SCAN, TREES
from tests.abuse.test_limits import FLOODS, GREEDY, HOLDERS, LIMIT, NEVER_ENDING
from tests.abuse.test_pipes import BEGIN, MEDDLERS
from tests.conftest import available_images
from tests.integration.conftest import LOCAL
from tests.integration.server import running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.server import Answer, Server

MALLORY, ALICE = "mallory's", "alice's"
OTHERWISE = {
    "an atexit callback": "ok",
    "an exit that waits for a thread": "ok",
    "closing every descriptor first": "killed",
    "from a program": "killed",
}
"""The end of a cell is not that of its interpreter, which is killed without its socket."""
MARKER = f"marker-{secrets.token_hex(8)}"


class Attacker:
    """One tenant's session after the other: a new one if the last has ended or has left files."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._path = ""

    async def cell(self, code: str, **fields: Any) -> Answer:
        """Run a cell with stdin; open a session if there is none."""
        if not self._path:
            opened = await ask(self._server, "POST", "/sessions", MALLORY, {})
            assert opened.status == 201, opened.body
            self._path = opened.headers["Location"]
        body = {"code": code, "stdin": MARKER, **fields}
        return await ask(self._server, "POST", f"{self._path}/run", MALLORY, body)

    async def attack(self, code: str, **fields: Any) -> dict[str, Any]:
        """Run a hostile cell, and see that its session can be used, or says why not."""
        ran = await self.cell(code, **fields)
        assert ran.status == 200, ran.body
        after = await self.cell("6 * 7", timeout_s=5)
        if after.status == 410:
            assert after.json["reason"] == "lost", after.body
            self._path = ""
            return dict(ran.json)
        assert after.status == 200, after.body
        if after.json["value"] != "42":  # what a cell does to its own interpreter is its own
            assert not after.json["restarted"], after.body
        await self._begin_anew()
        return dict(ran.json)

    async def end(self) -> None:
        """End the session."""
        if self._path:
            ended = await ask(self._server, "DELETE", self._path, MALLORY)
            assert ended.status == 204, ended.body
            self._path = ""

    async def _begin_anew(self) -> None:
        """Have a new interpreter for the next cell, and no files."""
        last = await self.cell("import os; os._exit(0)", timeout_s=5)
        if last.json["status"] == "output_limit":  # of threads that go on: it may not have begun
            await self.end()
            return
        tops = ("/home/code", "/tmp", "/dev/shm")
        left = await self.cell(f"import os; sum([os.listdir(top) for top in {tops}], [])")
        assert left.json["restarted"], left.body
        if left.json["value"] != "[]":
            await self.end()


async def ask(server: Server, method: str, path: str, key: str, body: object = None) -> Answer:
    return await server.request(method, path, json=body, headers={"Authorization": f"Bearer {key}"})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Share a server of two tenants; it runs in the first image, as sessions have no second way."""
    settings = {"API_KEYS": f"mallory:{MALLORY},alice:{ALICE}", "METRICS_OPEN": "true"}
    image = available_images()[0]
    with running(tmp_path_factory.mktemp("server"), {"IMAGE": image, **LOCAL, **settings}) as one:
        yield one


Sight = tuple[dict[str, Any], dict[str, Any]]


async def look(server: Server) -> Sight:
    """Return what another tenant sees in a run, and in a session."""
    found = []
    run = await ask(server, "POST", "/run", ALICE, {"language": "python", "code": FOOTPRINT})
    opened = await ask(server, "POST", "/sessions", ALICE, {})
    path = opened.headers["Location"]
    cell = await ask(server, "POST", f"{path}/run", ALICE, {"code": FOOTPRINT})
    for answer in (run, cell):
        assert answer.json["status"] == "ok", answer.body
        sight = json.loads(answer.json["data"])
        # As many zeros as the runner's own variable had bytes: each container's has its number.
        sight["initial environment"] = [one for one in sight["initial environment"] if one]
        found.append(sight)
    scanned = await ask(server, "POST", f"{path}/run", ALICE, {"code": SCAN})
    found[1]["marker"] = scanned.json["data"]
    assert (await ask(server, "DELETE", path, ALICE)).status == 204
    return found[0], found[1]


@pytest.fixture(scope="module")
def seen(server: Server) -> list[Sight]:
    """Remember what Alice sees before anything is attacked."""
    return [asyncio.run(look(server))]


@pytest.fixture(scope="module")
def attacker(server: Server, seen: list[Sight]) -> Attacker:
    """Attack once it is known what Alice sees without that."""
    assert len(seen) == 1
    return Attacker(server)


@pytest.mark.parametrize("name", NEVER_ENDING)
async def test_a_cell_that_never_ends_is_ended_at_its_time_limit(
    attacker: Attacker, name: str
) -> None:
    ran = await attacker.attack(NEVER_ENDING[name], timeout_s=0.3)
    assert ran["status"] == OTHERWISE.get(name, "timeout"), ran


@pytest.mark.parametrize("name", GREEDY)
async def test_more_memory_than_the_limit_is_a_memory_limit(attacker: Attacker, name: str) -> None:
    ran = await attacker.attack(GREEDY[name], timeout_s=20)
    assert ran["status"] == "memory_limit", ran


@pytest.mark.parametrize("name", FLOODS)
async def test_a_flood_is_cut_at_exactly_the_output_limit(attacker: Attacker, name: str) -> None:
    stay = "\nimport time; time.sleep(20)"  # a cell does not wait for its threads, as a script does
    ran = await attacker.attack(FLOODS[name] + stay, output_limit_bytes=LIMIT, timeout_s=20)
    assert ran["status"] == OTHERWISE.get(name, "output_limit")
    assert len(ran["data"]) == LIMIT or name in OTHERWISE


@pytest.mark.parametrize("name", HOLDERS)
async def test_a_cell_ends_with_its_interpreter_whoever_holds_its_output(
    attacker: Attacker, name: str
) -> None:
    begin = "import os, signal, subprocess, sys, time\nprint('done', flush=True)\n"
    ran = await attacker.attack(f"{begin}{HOLDERS[name]}\nos._exit(3)")
    assert (ran["status"], ran["exit_code"], ran["data"]) == ("error", 3, "done\n")


@pytest.mark.parametrize("name", MEDDLERS)
async def test_a_cell_that_meddles_with_its_pipes_has_an_answer(
    attacker: Attacker, name: str
) -> None:
    ran = await attacker.attack(BEGIN + MEDDLERS[name], timeout_s=0.5)
    assert ran["status"] in ("ok", "error", "timeout", "output_limit"), ran


@pytest.mark.parametrize(
    "group", [SYSTEM_CALLS, FILES, USERS, SOCKETS], ids=["calls", "files", "users", "sockets"]
)
async def test_no_attempt_gets_further_than_its_error(
    attacker: Attacker, group: dict[str, tuple[str, set[str]]]
) -> None:
    tries = "".join(
        f"said[{name!r}] = attempt(lambda: {what})\n" for name, (what, _) in group.items()
    )
    begin = f"open('/home/code/Main.py', 'w').close()\n{ATTEMPT}said = {{}}\n"  # as a run has it
    ran = await attacker.attack(f"{begin}{tries}print(json.dumps(said))")
    said = json.loads(ran["data"].splitlines()[-1])
    assert said.keys() == group.keys()
    assert not {name: error for name, error in said.items() if error not in group[name][1]}


@pytest.mark.parametrize("name", [*LEAVE, *TREES])
async def test_what_a_cell_leaves_does_not_hold_up_its_session(
    attacker: Attacker, name: str
) -> None:
    code = LEAVE.get(name) or DEEPEN + TREES[name]
    ran = await attacker.attack(PRELUDE + code)
    assert ran["status"] in ("ok", "error", "killed"), ran


async def test_another_tenant_sees_nothing_of_all_that(
    server: Server, attacker: Attacker, seen: list[Sight]
) -> None:
    """Neither beside a session that is under attack, nor in the place of one that has ended."""
    for end in (False, True):
        ran = await attacker.cell(PRELUDE + LEAVE["a file on every mount"] + LEAVE["a daemon"])
        assert ran.json["status"] == "ok", ran.body
        if end:
            await attacker.end()
        for sight, first in zip(await look(server), seen[0], strict=True):
            assert not [(key, old, sight[key]) for key, old in first.items() if sight[key] != old]
    states = await server.by_state()
    assert not states["session"], states
