"""A trusted key names the end user of a request, who is a tenant of his own then."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.unit.http.rig import Running, Serve

CODE = {"language": "python", "code": "x"}
KEYS: dict[str, Any] = {"api_keys": "front:one,batch:two", "trusted_keys": "front"}
FRONT = {"Authorization": "Bearer one"}
BATCH = {"Authorization": "Bearer two"}


async def test_each_user_of_a_trusted_key_is_a_tenant(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pgexec.request")
    server = await serve(**KEYS)
    for user in ("ann", "ben/../ann", None):
        assert (await server.post({**CODE, "user": user}, **FRONT)).status == 200
    assert (await server.post(CODE, **BATCH)).status == 200
    await server.get("/ping")
    assert server.service.tenants == ["front/ann", "front/ben/../ann", "front", "batch"]
    fields = [vars(record)["fields"] for record in caplog.records]
    assert [one.get("user") for one in fields[:4]] == ["ann", "ben/../ann", None, None]
    assert [one["tenant"] for one in fields[:4]] == ["front", "front", "front", "batch"]
    metrics = (await server.get("/metrics", **FRONT)).body
    assert b"ann" not in metrics


@pytest.mark.parametrize("settings", [{}, KEYS, {"api_keys": "batch:two"}])
async def test_nobody_else_may_name_one(serve: Serve, settings: dict[str, Any]) -> None:
    server = await serve(**settings)
    answer = await server.post({**CODE, "user": "ann"}, **BATCH)
    assert (answer.status, answer.json["code"]) == (403, "untrusted_key")
    assert "PGEXEC_TRUSTED_KEYS" in answer.json["error"]
    assert not server.service.requests


@pytest.mark.parametrize("user", ["", "a" * 129, "a\nb", "\u00e9", "\0", 7, ["ann"], {}, True])
async def test_a_user_is_a_short_text(serve: Serve, user: object) -> None:
    server = await serve(**KEYS)
    answer = await server.post({**CODE, "user": user}, **FRONT)
    assert (answer.status, answer.json["code"]) == (400, "invalid_field")
    assert "'user'" in answer.json["error"]
    assert not server.service.requests


async def test_the_page_of_a_key_shows_the_runs_of_all_its_users(serve: Serve) -> None:
    server: Running = await serve(**KEYS)
    for user in ("ann", "ben"):
        await server.post({**CODE, "user": user}, **FRONT)
    assert len((await server.get("/status", **FRONT)).json["recent"]) == 2
    assert not (await server.get("/status", **BATCH)).json["recent"]
