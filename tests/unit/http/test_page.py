"""The page at `/`, the document behind it, and who gets to see them."""

from __future__ import annotations

import asyncio
import logging
import re
from base64 import b64encode
from hashlib import sha256
from typing import TYPE_CHECKING

from pool import errors as pool

if TYPE_CHECKING:
    import pytest

    from tests.unit.http.rig import Running, Serve

CODE = {"language": "python", "code": "print('SECRET')", "stdin": "SECRET", "dependencies": []}


def policy_of(headers: dict[str, str]) -> dict[str, list[str]]:
    directives = (item.split() for item in headers["Content-Security-Policy"].split(";"))
    return {name: sources for name, *sources in directives}


async def test_the_policy_lets_only_the_pages_own_script_and_style_run(server: Running) -> None:
    answer = await server.get("/")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    policy = policy_of(answer.headers)
    assert policy["default-src"] == policy["frame-ancestors"] == ["'none'"]
    assert policy["base-uri"] == policy["form-action"] == ["'none'"]
    found = {
        tag: re.findall(rf"<{tag}>(.*?)</{tag}>".encode(), answer.body, re.DOTALL)
        for tag in ("script", "style")
    }
    found["script"].append((await server.get("/editor.js")).body)
    for tag, contents in found.items():
        digests = [b64encode(sha256(content).digest()).decode() for content in contents]
        assert policy[f"{tag}-src"] == [f"'sha256-{digest}'" for digest in digests]
    assert "unsafe" not in answer.headers["Content-Security-Policy"]


async def test_the_page_needs_nothing_from_elsewhere(server: Running) -> None:
    page = (await server.get("/")).body.decode()
    links = re.findall(r"""(?:src|href|action|url)=["']?([^"')\s>]+)|url\(([^)]+)""", page)
    found = [link for pair in links for link in pair if link and not link.startswith("data:")]
    assert [link.partition("?")[0] for link in found] == ["/metrics", "/editor.js"]
    editor = (await server.get("/editor.js")).body.decode()
    for text in (page, editor):
        assert not re.search(r"\son\w+=\"|\sstyle=\"|innerHTML|javascript:|\beval\(", text)
    assert not re.search(r"fetch\(|XMLHttpRequest|\bimport\(|WebSocket", editor)


async def test_the_status_shows_the_pool_and_the_last_runs(server: Running) -> None:
    await server.post(CODE, **{"X-Request-ID": "mine"})
    server.service.error = pool.PoolSaturated("all places are taken", retry_after_s=1.0)
    await server.post(CODE)
    answer = await server.get("/status")
    assert answer.headers["Cache-Control"] == "no-store"
    found = answer.json
    assert found["unready"] is None
    assert found["languages"] == ["python"]
    assert found["pools"] == {
        "python": {
            "capacity": 16,
            "starting": 1,
            "idle": 4,
            "leased": 2,
            "session": 0,
            "resetting": 0,
            "destroying": 0,
            "waiting": 3,
        }
    }
    (last, run) = found["recent"]  # the fake service gives out containers first
    assert last["status"] == "saturated"
    assert (run["request_id"], run["status"], run["language"]) == ("mine", "ok", "python")
    assert found["latency"]["run"] == {"p50": 0.001, "p99": 0.001}
    assert b"SECRET" not in answer.body


async def test_the_status_says_why_nothing_runs(server: Running) -> None:
    server.service.reason = "the engine is away"
    assert (await server.get("/status")).json["unready"] == "the engine is away"


async def test_what_the_page_polls_does_not_fill_the_log(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pgexec.request")
    server = await serve(api_keys="alice:one")
    await server.get("/status", Authorization="Bearer one")
    await server.get("/status", Authorization="Bearer two")
    await server.get("/ping")  # the lines above follow their answers
    logged = [vars(record)["fields"] for record in caplog.records]
    assert [(one["path"], one["status"]) for one in logged][:1] == [("/status", 401)]


async def test_who_hangs_up_is_among_the_last_runs(server: Running) -> None:
    server.service.gate = asyncio.Event()
    running = asyncio.create_task(server.post(CODE))
    async with asyncio.timeout(20):
        await server.service.entered.wait()
        running.cancel()
        await server.service.cancelled.wait()
        while not (recent := (await server.get("/status")).json["recent"]):  # nobody tells
            await asyncio.sleep(0)
    assert (recent[0]["status"], recent[0]["run_s"]) == ("client_gone", None)


async def test_with_keys_the_page_is_empty_and_the_status_is_the_callers_own(
    serve: Serve,
) -> None:
    server = await serve(api_keys="alice:one,bob:two")
    await server.post(CODE, Authorization="Bearer one", **{"X-Request-ID": "hers"})
    assert b'data-keyed="true"' in (await server.get("/")).body
    answer = await server.get("/status", Authorization="Bearer three")
    assert (answer.status, answer.json["code"]) == (401, "unauthorized")
    hers = (await server.get("/status", Authorization="Bearer one")).json
    assert [run["request_id"] for run in hers["recent"]] == ["hers"]
    answer = await server.get("/status", Authorization="Bearer two")
    assert answer.json["recent"] == []
    assert b"hers" not in answer.body
    assert b"alice" not in answer.body


async def test_the_page_closes_by_a_setting(serve: Serve) -> None:
    server = await serve(page=False)
    await server.post(CODE)
    assert (await server.get("/")).status == 404
    assert not OWN & set((await server.get("/status")).json)


OWN = {"ran", "refused", "latency", "recent"}


async def test_machines_read_the_load_of_the_server_as_they_read_its_metrics(serve: Serve) -> None:
    key = {"Authorization": "Bearer one"}
    server = await serve(api_keys="alice:one", server_name="here", pool_max_containers=7)
    found = (await server.get("/status")).json
    assert not OWN & set(found)
    load = {name: found[name] for name in ("server", "unready", "capacity", "in_use", "waiting")}
    assert load == {"server": "here", "unready": None, "capacity": 7, "in_use": 2, "waiting": 3}
    assert set((await server.get("/status", **key)).json) == set(found) | OWN
    closed = await serve(api_keys="alice:one", metrics_open=False)
    assert (await closed.get("/status")).status == 401
    assert set((await closed.get("/status", **key)).json) == set(found) | OWN


async def test_the_playground_closes_by_a_setting(serve: Serve) -> None:
    for playground in (True, False):
        server = await serve(playground=playground)
        answer = await server.get("/")
        assert (b'id="playground"' in answer.body) is playground
        assert (b"<textarea" in answer.body) is playground
        assert (b'src="/editor.js' in answer.body) is playground
