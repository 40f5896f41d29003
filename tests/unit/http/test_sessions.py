"""The routes of sessions, on a pool whose engine is a fake."""

from __future__ import annotations

import asyncio
import logging
import socket
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import ClientSession
from openapi_spec_validator import OpenAPIV31SpecValidator
from pydantic_core import to_json

from pgexec.http.routes import CONTEXT, make_app
from pgexec.http.server import HttpServer
from pgexec.service import PoolService
from pgexec.sessions import SessionService
from pgexec.settings import Settings
from pgexec.settings.pool import pool_config
from pgexec.telemetry.metrics import Metrics
from pool import PoolManager
from tests import sse
from tests.unit.fake_engine import LARGE_FORMS, FakeEngine
from tests.unit.http.rig import Answer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pgexec.sessions import HeldSession

NO_SESSIONS = {"idle": 0, "busy": 0, "ended": {}}


@dataclass
class Site:
    """A server with sessions, and a client of it."""

    url: str
    client: ClientSession
    engine: FakeEngine
    sessions: SessionService
    pool: PoolManager

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        options = {} if body is None else {"json": body}
        async with self.client.request(
            method, self.url + path, headers=headers, **options
        ) as answer:
            return Answer(answer.status, dict(answer.headers), await answer.read())

    async def open(self, body: Any = None, **headers: str) -> str:
        answer = await self.ask("POST", "/sessions", body or {}, **headers)
        assert answer.status == 201, answer.body
        return str(answer.json["id"])

    async def run(self, name: str, code: str, **fields: Any) -> Answer:
        return await self.ask("POST", f"/sessions/{name}/run", {"code": code, **fields})


class NoDependencies:
    """No session here asks for any."""


@asynccontextmanager
async def site(**changes: Any) -> AsyncIterator[Site]:
    settings = Settings.of(**{"pool_max_containers": 4, "pool_min_idle": 1} | changes)
    engine = FakeEngine()
    async with AsyncExitStack() as stack:
        pool = PoolManager(engine.launcher(), pool_config(settings))
        await stack.enter_async_context(pool)
        service = PoolService(
            {"python": pool},
            NoDependencies(),  # type: ignore[arg-type]
            output_limit_bytes=1 << 20,
        )
        metrics = Metrics()
        sessions = SessionService(
            service,
            {"python": pool},
            observer=metrics.sessions,
            server_name=settings.server_name,
        )
        metrics.sessions.watch(sessions.counts)
        stack.callback(sessions.drain)
        app = make_app(settings, service, metrics, None, sessions)
        server = HttpServer(
            app,
            app[CONTEXT].reporter.answered,
            request_timeout_s=5,
            keepalive_timeout_s=5,
            max_connections=99,
            shutdown_timeout_s=0.1,
        )
        port = await server.start("127.0.0.1", 0)
        stack.push_async_callback(server.close)
        client = await stack.enter_async_context(ClientSession())
        yield Site(f"http://127.0.0.1:{port}", client, engine, sessions, pool)


async def test_a_session_is_opened_used_and_deleted() -> None:
    async with site() as this:
        opened = await this.ask("POST", "/sessions", {"language": "PY"})
        name = opened.json["id"]
        assert opened.status == 201
        assert opened.headers["Location"] == f"/sessions/{name}"
        steps = [one.partition(";")[0] for one in opened.headers["Server-Timing"].split(", ")]
        assert steps == ["queue", "lease", "total"]
        assert opened.json.keys() == {"id", "language", "expires_in_s"}
        assert opened.json["language"] == "python"
        ran = await this.run(name, "ok", args=["a"], env={"B": "c"})
        assert (ran.status, ran.json["stdout"], ran.json["value"]) == (200, "hello\n", "42")
        assert (ran.json["displays"], ran.json["restarted"]) == ([], False)
        container = next(iter(this.engine.containers.values()))
        assert container.strings == b"a\0B=c\0"
        state = (await this.ask("GET", f"/sessions/{name}")).json
        assert (state["state"], state["runs"]) == ("idle", 1)
        (listed,) = (await this.ask("GET", "/sessions")).json["sessions"]
        assert listed.keys() == state.keys()
        assert listed["id"] == name
        gone = await this.ask("DELETE", f"/sessions/{name}")
        assert (gone.status, gone.body) == (204, b"")
        for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/run")):
            answer = await this.ask(method, f"/sessions/{name}{path}", {"code": "ok"})
            assert (answer.status, answer.json["code"]) == (410, "session_ended")
            assert answer.json["reason"] == "deleted"
        assert (await this.ask("GET", "/sessions")).json == {"sessions": []}


async def test_a_client_that_leaves_with_its_whole_answer_is_not_gone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that is slow to go on after a piece would notice any client that leaves."""
    caplog.set_level(logging.INFO, "pgexec.request")
    monkeypatch.setattr("pgexec.http.delivery.turn", lambda: asyncio.sleep(0.1))
    async with site() as this:
        name = await this.open()
        answer = await this.ask("POST", f"/sessions/{name}/run", {"code": "ok"}, Connection="close")
        assert answer.status == 200
        await asyncio.sleep(0.3)
    (run,) = [one for one in caplog.records if vars(one)["fields"]["path"] == "/sessions/{id}/run"]
    assert (vars(run)["fields"]["status"], vars(run)["fields"].get("code")) == (200, None)


async def test_the_status_has_the_living_by_state_and_the_ends_by_reason() -> None:
    async with site() as this:
        assert (await this.ask("GET", "/status")).json["sessions"] == NO_SESSIONS
        first, second = await this.open(), await this.open()
        cell = asyncio.create_task(this.run(first, "hang"))
        while (await this.ask("GET", f"/sessions/{first}")).json["state"] != "busy":
            await asyncio.sleep(0.01)
        now = (await this.ask("GET", "/status")).json["sessions"]
        assert now == {"idle": 1, "busy": 1, "ended": {}}
        for name in (first, second):
            await this.ask("DELETE", f"/sessions/{name}")
        await cell
        while (now := (await this.ask("GET", "/status")).json["sessions"])["ended"] != {
            "deleted": 2
        }:
            await asyncio.sleep(0.01)
        assert (now["idle"], now["busy"]) == (0, 0)


async def test_what_there_never_was_is_unknown() -> None:
    async with site() as this:
        for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/run")):
            answer = await this.ask(method, f"/sessions/no-such{path}", {"code": "ok"})
            assert (answer.status, answer.json["code"]) == (404, "no_session")


async def test_a_server_of_the_same_name_knows_that_a_session_was_there() -> None:
    alice, bob = {"Authorization": "Bearer one"}, {"Authorization": "Bearer two"}
    keys = {"api_keys": "alice:one,bob:two", "trusted_keys": "alice"}
    async with site(server_name="east", **keys) as this:
        names = [await this.open(body, **alice) for body in ({}, {"user": "ann"})]
    async with site(server_name="east", **keys) as this:
        for name in names:
            for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/run")):
                where = f"/sessions/{name}{path}"
                ended = await this.ask(method, where, {"code": "ok"}, **alice)
                assert (ended.status, ended.json["reason"]) == (410, "lost")
                assert "started again" in ended.json["error"]
                assert (await this.ask(method, where, {"code": "ok"}, **bob)).status == 404
            for wrong in (
                f"{name[:-1]}.",
                name[:-1],
                name + "A",
                name.replace("east", "west"),
                "é",
            ):
                assert (await this.ask("GET", f"/sessions/{wrong}", **alice)).status == 404
    async with site(server_name="west", **keys) as this:
        assert (await this.ask("GET", f"/sessions/{names[0]}", **alice)).status == 404


async def test_another_tenant_finds_nothing() -> None:
    keys = "alice:one,bob:two"
    alice, bob = {"Authorization": "Bearer one"}, {"Authorization": "Bearer two"}
    async with site(api_keys=keys) as this:
        name = await this.open(None, **alice)
        await this.ask("DELETE", f"/sessions/{await this.open(None, **alice)}", **alice)
        for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/run")):
            where = f"/sessions/{name}{path}"
            assert (await this.ask(method, where, {"code": "ok"}, **bob)).status == 404
            assert (await this.ask(method, where, {"code": "ok"})).status == 401
        assert (await this.ask("GET", "/sessions", **bob)).json == {"sessions": []}
        assert (await this.ask("GET", f"/sessions/{name}", **alice)).status == 200


async def test_a_user_of_a_trusted_key_has_sessions_of_his_own() -> None:
    key = {"Authorization": "Bearer one"}
    async with site(api_keys="alice:one,bob:two", trusted_keys="alice") as this:
        name = await this.open({"user": "ann"}, **key)
        for user, status in (("ann", 200), ("eve", 404), (None, 200)):
            body = {"code": "ok"} if user is None else {"code": "ok", "user": user}
            answer = await this.ask("POST", f"/sessions/{name}/run", body, **key)
            assert answer.status == status


async def test_one_cell_at_a_time_and_a_client_that_leaves_interrupts() -> None:
    async with site() as this:
        name = await this.open()
        first = asyncio.create_task(this.run(name, "hang"))
        while (await this.ask("GET", f"/sessions/{name}")).json["state"] != "busy":
            await asyncio.sleep(0.01)
        busy = await this.run(name, "ok")
        assert (busy.status, busy.json["code"]) == (409, "session_busy")
        first.cancel()
        while (await this.ask("GET", f"/sessions/{name}")).json["state"] != "idle":
            await asyncio.sleep(0.01)
        assert (await this.run(name, "ok")).json["value"] == "42"


async def test_a_cell_may_be_a_stream() -> None:
    async with site() as this:
        name = await this.open()
        answer = await this.ask(
            "POST", f"/sessions/{name}/run", {"code": "ok"}, Accept="text/event-stream"
        )
        events = list(sse.parse(answer.body))
        assert [event for event, _ in events] == ["stdout", "result"]
        assert events[-1][1]["value"] == "42"


async def test_large_forms_are_rendered_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also as a stream. Others would wait for as long as such a text needs to become JSON."""
    longest = 0

    def measured(value: object) -> bytes:
        nonlocal longest
        text = to_json(value)
        longest = max(longest, len(text))
        return text

    for module in ("sessions", "texts"):
        monkeypatch.setattr(f"pgexec.http.{module}.to_json", measured)
    wanted = [form.decode("utf-8", "replace") for form in LARGE_FORMS]
    async with site() as this:
        name = await this.open()
        answer = (await this.run(name, "show large")).json
        assert [one["content"] for one in answer["displays"]] == wanted
        assert (answer["value"], answer["restarted"]) == ("42", False)
        events = await this.ask(
            "POST", f"/sessions/{name}/run", {"code": "show large"}, Accept="text/event-stream"
        )
        (result,) = [data for kind, data in sse.parse(events.body) if kind == "result"]
        assert [one["content"] for one in result["displays"]] == wanted
    assert longest < 64 << 10


async def test_beyond_the_limit_there_is_a_503_that_says_when_to_come_back() -> None:
    async with site(sessions_max=1, session_idle_s=60) as this:
        await this.open()
        answer = await this.ask("POST", "/sessions", {})
        assert (answer.status, answer.json["code"]) == (503, "too_many_sessions")
        assert answer.headers["Retry-After"] == "60"
    async with site(sessions_max=0) as this:
        assert (await this.ask("POST", "/sessions", {})).status == 503


async def test_a_lost_container_is_a_502_and_then_a_410() -> None:
    async with site() as this:
        name = await this.open()
        lost = await this.run(name, "die")
        assert (lost.status, lost.json["code"]) == (502, "container_lost")
        assert "Retry-After" not in lost.headers
        assert (await this.run(name, "ok")).json["reason"] == "lost"


async def test_the_name_of_the_server_begins_the_ids() -> None:
    async with site(server_name="east-1") as this:
        prefix, _, rest = (await this.open()).partition(".")
        assert (prefix, len(rest)) == ("east-1", 40)
    async with site() as this:
        assert "." not in await this.open()


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"code": "1"}, "unknown_field"),
        ({"idle_timeout_s": 301}, "invalid_field"),
        ({"idle_timeout_s": 0}, "invalid_field"),
        ({"idle_timeout_s": "1"}, "invalid_field"),
        ({"language": "ruby"}, "unsupported_language"),
        ({"files": [{"name": "/a", "content": ""}]}, "invalid_file"),
        ({"dependencies": ["-r x"]}, "bad_requirement"),
        ({"env": {"a b": ""}}, "invalid_field"),
        ([], "invalid_json"),
    ],
)
async def test_a_wrong_opening_is_refused(body: Any, code: str) -> None:
    async with site() as this:
        answer = await this.ask("POST", "/sessions", body)
        assert (answer.status, answer.json["code"]) == (400, code)
        assert this.pool.snapshot().session == 0


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"code": "1", "language": "python"}, "unknown_field"),
        ({"code": "1", "dependencies": []}, "unknown_field"),
        ({"code": "1", "fresh": True}, "unknown_field"),
        ({"code": " "}, "empty_code"),
        ({}, "missing_field"),
        ({"code": "1", "timeout_s": 31}, "invalid_field"),
        ({"code": "1", "memory_limit_bytes": 1 << 40}, "invalid_field"),
        ({"code": "1", "collect": ["/etc/*"]}, "invalid_field"),
    ],
)
async def test_a_wrong_cell_is_refused(body: Any, code: str) -> None:
    async with site() as this:
        name = await this.open()
        answer = await this.ask("POST", f"/sessions/{name}/run", body)
        assert (answer.status, answer.json["code"]) == (400, code)
        assert (await this.run(name, "ok")).status == 200


async def test_no_file_has_the_name_of_a_script_where_there_is_none() -> None:
    files = [{"name": "Main.py", "content": "1"}, {"name": "lib/Main.py/a", "content": "1"}]
    async with site() as this:
        name = await this.open({"files": files})
        assert (await this.run(name, "ok", files=files)).status == 200


async def test_metrics_count_sessions_and_name_no_id() -> None:
    async with site() as this:
        name = await this.open()
        await this.open()
        await this.run(name, "ok")
        await this.ask("DELETE", f"/sessions/{name}")
        await asyncio.sleep(0.05)
        text = (await this.ask("GET", "/metrics")).body.decode()
        for line in (
            'pgexec_sessions{profile="python",state="idle"} 1.0',
            'pgexec_sessions_opened_total{profile="python"} 2.0',
            'pgexec_sessions_ended_total{profile="python",reason="deleted"} 1.0',
            "pgexec_session_cells_sum 1.0",
            'pgexec_requests_total{path="/sessions/{id}/run",status="200"} 1.0',
        ):
            assert line in text
        assert name not in text


async def test_no_site_of_strangers_reads_or_ends_sessions() -> None:
    async with site() as this:
        name = await this.open()
        for method, path in (("GET", ""), ("GET", f"/{name}"), ("DELETE", f"/{name}")):
            answer = await this.ask(method, f"/sessions{path}", Host="evil.example")
            assert answer.status == 421


async def test_the_document_describes_all_of_it() -> None:
    async with site() as this:
        document = (await this.ask("GET", "/openapi.json")).json
        OpenAPIV31SpecValidator(document).validate()
        schemas = document["components"]["schemas"]
        idle, _ = schemas["OpenRequest"]["properties"]["idle_timeout_s"]["anyOf"]
        assert (idle["minimum"], idle["maximum"]) == (0.001, 300)
        assert set(schemas["OpenRequest"]["properties"]) == {
            *("language", "dependencies", "files", "env", "idle_timeout_s"),
        }
        cell = set(schemas["CellRequest"]["properties"])
        assert cell.isdisjoint({"language", "dependencies", "fresh", "user"})
        assert cell >= {"code", "stdin", "files", "collect", "args", "env", "timeout_s"}
        run = document["paths"]["/sessions/{id}/run"]["post"]["responses"]
        assert {"200", "404", "409", "410"} <= set(run)
        assert "201" in document["paths"]["/sessions"]["post"]["responses"]


async def test_a_busy_session_tells_strangers_no_more_than_one_that_is_not_there() -> None:
    alice, bob = {"Authorization": "Bearer one"}, {"Authorization": "Bearer two"}
    async with site(api_keys="alice:one,bob:two") as this:
        where = f"/sessions/{await this.open(None, **alice)}"
        cell = asyncio.create_task(this.ask("POST", f"{where}/run", {"code": "hang"}, **alice))
        while (await this.ask("GET", where, **alice)).json["state"] != "busy":
            await asyncio.sleep(0.01)
        bodies: tuple[Any, ...] = ({"code": "ok"}, {"cod": "ok"}, [])
        for body in bodies:
            assert (await this.ask("POST", f"{where}/run", body, **bob)).status == 404
        assert (await this.ask("DELETE", where, **bob)).status == 404
        assert (await this.ask("GET", where, **alice)).json["state"] == "busy"
        assert (await this.ask("POST", f"{where}/run", {"cod": 1}, **alice)).status == 400
        gone = await asyncio.gather(*(this.ask("DELETE", where, **alice) for _ in range(3)))
        assert sorted(one.status for one in gone) == [204, 410, 410]
        lost = await cell
        assert (lost.status, lost.json["reason"]) == (410, "deleted")


async def test_a_client_that_leaves_while_its_session_opens_leaves_none() -> None:
    async with site() as this:
        this.engine.write_gate = asyncio.Event()
        opening = asyncio.create_task(this.ask("POST", "/sessions", {}))
        while not this.pool.snapshot().session:
            await asyncio.sleep(0.01)
        opening.cancel()
        while this.pool.snapshot().session:
            await asyncio.sleep(0.01)
        this.engine.write_gate.set()
        assert (await this.ask("GET", "/sessions")).json == {"sessions": []}
        name = await this.open()
        assert (await this.run(name, "ok")).json["value"] == "42"


async def test_a_client_that_leaves_just_before_its_answer_leaves_no_session(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pgexec.request")
    async with site() as this:
        client = socket.create_connection(("127.0.0.1", int(this.url.rpartition(":")[2])))
        honest, left = this.sessions.open, asyncio.Event()

        async def leave(*given: Any) -> HeldSession:
            entry = await honest(*given)
            client.close()  # the server hears of that only once it has written its answer
            left.set()
            return entry

        monkeypatch.setattr(this.sessions, "open", leave)
        head = b"POST /sessions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        client.sendall(head + b"Content-Length: 2\r\n\r\n{}")
        await left.wait()
        for _ in range(20):
            await asyncio.sleep(0.01)
        assert this.sessions.figures() == {"idle": 0, "busy": 0, "ended": {"deleted": 1}}
        monkeypatch.undo()
        name = await this.open()
        assert (await this.run(name, "ok")).json["value"] == "42"
    opening = next(one for one in caplog.records if vars(one)["fields"]["path"] == "/sessions")
    assert vars(opening)["fields"]["status"] == 499


async def test_a_drain_while_a_session_opens_gives_it_to_nobody() -> None:
    async with site() as this:
        this.engine.write_gate = asyncio.Event()
        opening = asyncio.create_task(this.ask("POST", "/sessions", {}))
        while not this.pool.snapshot().session:
            await asyncio.sleep(0.01)
        this.sessions.drain()
        this.engine.write_gate.set()
        opened = await opening
        if opened.status == 201:
            ended = await this.run(opened.json["id"], "ok")
            assert (ended.status, ended.json["reason"]) == (410, "drained")
        else:
            assert opened.status == 503, opened.body
        refused = await this.ask("POST", "/sessions", {})
        assert (refused.status, "Retry-After" in refused.headers) == (503, True)


async def test_a_tenant_s_sessions_and_runs_count_together() -> None:
    key = {"Authorization": "Bearer one"}
    async with site(api_keys="alice:one", tenant_max_running=1) as this:
        where = f"/sessions/{await this.open(None, **key)}"
        body = {"language": "python", "code": "ok"}
        cell = asyncio.create_task(this.ask("POST", f"{where}/run", {"code": "hang"}, **key))
        while (await this.ask("GET", where, **key)).json["state"] != "busy":
            await asyncio.sleep(0.01)
        full = await this.ask("POST", "/run", body, **key)
        assert (full.status, "Retry-After" in full.headers) == (429, True)
        assert "has 1 session already, as many as it may: end a session" in full.json["error"]
        (busy,) = [one for one in this.engine.containers.values() if one.busy]
        busy.finish()
        assert (await cell).status == 200
        assert (await this.ask("POST", "/run", body, **key)).status == 200  # in place of the idle
        ended = await this.ask("GET", where, **key)
        assert (ended.status, ended.json["reason"]) == (410, "quota")
