"""Pages of the listed origins may call from their script; for all others nothing is different."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pool.errors import PoolSaturated

if TYPE_CHECKING:
    from tests.unit.http.rig import Running, Serve

PAGE = "https://app.example.com"
OTHERS = ["https://evil.example", "https://app.example.com.evil.example", "null", f"{PAGE}:8443"]
CODE = {"language": "python", "code": "x"}
ASKING = {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type",
}


@pytest.fixture
async def shared(serve: Serve) -> Running:
    return await serve(cors_origins=f"{PAGE}, http://localhost:3000", api_keys="alice:secret")


def granted(headers: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.startswith("Access-Control")}


async def test_a_listed_page_may_send_json_and_a_key(shared: Running) -> None:
    asked = await shared.get("/run", "OPTIONS", Origin=PAGE, **ASKING)
    assert (asked.status, asked.body) == (204, b"")
    assert asked.headers["Access-Control-Allow-Origin"] == PAGE
    assert asked.headers["Access-Control-Allow-Methods"] == "POST"
    allowed = asked.headers["Access-Control-Allow-Headers"].lower().split(", ")
    assert {"authorization", "content-type"} <= set(allowed)
    assert "Access-Control-Allow-Credentials" not in asked.headers
    ran = await shared.post(CODE, Origin=PAGE, Authorization="Bearer secret")
    assert (ran.status, ran.headers["Access-Control-Allow-Origin"]) == (200, PAGE)
    assert ran.headers["Vary"] == "Origin"
    assert "Location" in ran.headers["Access-Control-Expose-Headers"].split(", ")  # of a session


async def test_a_listed_page_reads_streams_and_refusals(shared: Running) -> None:
    key = {"Origin": PAGE, "Authorization": "Bearer secret"}
    stream = await shared.post(CODE, Accept="text/event-stream", **key)
    assert stream.headers["Content-Type"] == "text/event-stream"
    assert stream.headers["Access-Control-Allow-Origin"] == PAGE
    shared.service.error = PoolSaturated("full", retry_after_s=2)
    refused = await shared.post(CODE, **key)
    assert (refused.status, refused.headers["Access-Control-Allow-Origin"]) == (503, PAGE)
    assert "Retry-After" in refused.headers["Access-Control-Expose-Headers"]
    keyless = await shared.post(CODE, Origin=PAGE)
    assert (keyless.status, keyless.headers["Access-Control-Allow-Origin"]) == (401, PAGE)
    lost = await shared.get("/nowhere", Origin=PAGE)
    assert (lost.status, lost.headers["Access-Control-Allow-Origin"]) == (404, PAGE)


async def test_nothing_changes_for_other_origins(serve: Serve) -> None:
    shared, closed = await serve(cors_origins=PAGE), await serve()
    for origin in [*OTHERS, ""]:
        sent = {"Origin": origin} if origin else {}
        for server in (shared, closed):
            answers = [
                await server.get("/run", "OPTIONS", **sent, **ASKING),
                await server.get("/run", "OPTIONS", **sent),
                await server.get("/ping", **sent),
                await server.post(CODE, **sent),
            ]
            assert [answer.status for answer in answers] == [405, 405, 200, 200], origin
            assert answers[0].headers["Allow"] == "POST"
            for answer in answers:
                assert not granted(answer.headers), origin
                assert "Vary" not in answer.headers


async def test_by_default_no_origin_is_listed(server: Running) -> None:
    asked = await server.get("/run", "OPTIONS", Origin=PAGE, **ASKING)
    assert (asked.status, granted(asked.headers)) == (405, {})


async def test_only_a_preflight_is_answered_as_one(shared: Running) -> None:
    plain = await shared.get("/run", "OPTIONS", Origin=PAGE)
    assert (plain.status, plain.json["code"]) == (405, "method_not_allowed")
    nowhere = await shared.get("/nowhere", "OPTIONS", Origin=PAGE, **ASKING)
    assert nowhere.status == 404
