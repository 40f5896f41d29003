"""The published document: valid, complete, and what the server does."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from pgexec import contract
from pgexec.contract import Refusal, RunRequest, RunResult, StreamRefusal
from pgexec.http.errors import HTTP, POOL, RequestError
from pgexec.http.limits import RequestLimits
from pgexec.http.parsing import parse_run
from pgexec.http.routes import PATHS
from pgexec.server_state import ServerStatus
from pgexec.settings.profiles import DEFAULT
from pool.inside.protocol import Kind
from pool.job import OutputFile
from tests import sse
from tests.unit.http.rig import make_result

if TYPE_CHECKING:
    from pgexec.service import Progress
    from tests.unit.http.rig import Running, Serve

CODE = {"language": "python", "code": "print(1)"}


@pytest.fixture
async def document(server: Running) -> Any:
    answer = await server.get("/openapi.json")
    assert answer.headers["Content-Type"].startswith("application/json")
    return answer.json


async def test_it_is_openapi(document: Any) -> None:
    OpenAPIV31SpecValidator(document).validate()
    assert document["openapi"] == "3.1.0"


async def test_it_has_every_path(document: Any) -> None:
    assert set(document["paths"]) == PATHS


async def test_its_request_is_the_model_with_the_servers_limits(serve: Serve) -> None:
    server = await serve(code_limit="2k", stdin_limit="1k", run_timeout_s=5)
    document = (await server.get("/openapi.json")).json
    schema = document["components"]["schemas"]["RunRequest"]
    fields = schema["properties"]
    assert [*fields, "user"] == list(RunRequest.model_fields)
    assert (schema["required"], schema["additionalProperties"]) == (["language", "code"], False)
    assert fields["language"]["enum"] == [DEFAULT, "py", "python3"]
    assert fields["output_limit_bytes"]["anyOf"][0]["maximum"] == 1 << 20
    assert (fields["code"]["maxLength"], fields["stdin"]["maxLength"]) == (2048, 1024)
    assert fields["timeout_s"]["anyOf"][0]["maximum"] == 5


async def test_a_request_may_name_a_user_where_some_key_is_trusted(serve: Serve) -> None:
    server = await serve(api_keys="alice:one,bob:two", trusted_keys="alice")
    document = (await server.get("/openapi.json")).json
    fields = document["components"]["schemas"]["RunRequest"]["properties"]
    assert list(fields) == list(RunRequest.model_fields)
    assert fields["user"]["anyOf"][0]["minLength"] == 1


async def test_every_status_of_the_tables_is_there(document: Any) -> None:
    named = {int(status) for status in document["paths"]["/run"]["post"]["responses"]}
    protocol = set(HTTP) - {404, 405, 411}  # of no path, of no method, and not asked for
    assert named >= {status for _, status, _ in POOL} | protocol | {200, 415, 500}


async def test_a_key_is_named_where_one_is_needed(serve: Serve, document: Any) -> None:
    assert "securitySchemes" not in document["components"]
    assert "401" not in document["paths"]["/run"]["post"]["responses"]
    server = await serve(api_keys="alice:one", metrics_open=False)
    keyed = (await server.get("/openapi.json")).json  # itself without one
    OpenAPIV31SpecValidator(keyed).validate()
    needed = {
        path
        for path, operations in keyed["paths"].items()
        for operation in operations.values()
        if operation.get("security") == [{"key": []}] and "401" in operation["responses"]
    }
    sessions = {path for path in PATHS if path.startswith("/sessions")}
    assert needed == {"/run", "/metrics", "/status", *sessions}


async def test_the_status_is_what_its_model_says(server: Running, serve: Serve) -> None:
    ServerStatus.model_validate_json((await server.get("/status")).body)
    await server.post(CODE)
    ServerStatus.model_validate_json((await server.get("/status")).body)
    closed = await serve(page=False)
    ServerStatus.model_validate_json((await closed.get("/status")).body)


@pytest.mark.parametrize(
    "changes", [{}, {"exit_code": None, "signal": 9}, {"stderr": b"\xff", "data": b"1\n\xff"}]
)
async def test_a_result_is_what_its_model_says(server: Running, changes: Any) -> None:
    server.service.result = make_result(**changes)
    answer = await server.post(CODE)
    RunResult.model_validate_json(answer.body)
    assert [*answer.json, "files", "files_omitted"] == list(RunResult.model_fields)


async def test_an_error_is_what_its_model_says(server: Running) -> None:
    Refusal.model_validate_json((await server.post({})).body)
    Refusal.model_validate_json((await server.get("/nowhere")).body)
    server.service.error = ZeroDivisionError()
    Refusal.model_validate_json((await server.post(CODE)).body)


async def test_each_event_is_there_with_the_model_of_its_data(
    server: Running, document: Any
) -> None:
    content = document["paths"]["/run"]["post"]["responses"]["200"]["content"]
    models = {}
    for event in content["text/event-stream"]["schema"]["oneOf"]:
        schema = event["properties"]["data"]["contentSchema"]
        first, *_ = schema.get("anyOf", [schema])
        models[event["properties"]["event"]["const"]] = first["$ref"]

    async def script(progress: Progress) -> None:
        progress.queued(1)
        progress.line("Resolved 1 package")
        progress.output(Kind.STDOUT, b"1")
        progress.output(Kind.STDERR, b"2")

    server.service.result = make_result(files=[OutputFile("a", 1, b"x")])
    server.service.script = script
    told = list(sse.parse((await server.post({**CODE, "collect": ["*"]}, **sse.ASK)).body))
    many = {**CODE, "stdins": [""]}
    told += list(sse.parse((await server.post(many, **sse.ASK)).body))[-1:]
    assert {*models} == {name for name, _ in told} | {"error"}
    for name, data in told:
        model = getattr(contract, models[name].rpartition("/")[2])
        model.model_validate_json(json.dumps(data), extra="forbid")


async def test_an_error_in_a_stream_is_what_its_model_says(server: Running) -> None:
    async def script(progress: Progress) -> None:
        progress.queued(1)

    server.service.script, server.service.error = script, ZeroDivisionError()
    *_, last = sse.parse((await server.post(CODE, **sse.ASK)).body)
    StreamRefusal.model_validate_json(json.dumps(last[1]))


LIMITS = RequestLimits(("python",), 30, 100, 100, 1 << 20, 1 << 20)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("code", "x"),
        ("code", " \n"),
        ("code", "\x00"),
        ("code", "a\x00"),
        ("code", "\n\nx\n\n"),
        ("code", "\u00a0"),
        ("code", "\x1c"),
        ("dependencies", "requests"),
        ("dependencies", "  requests [socks] >= 2 ; python_version > '3'"),
        ("dependencies", "-r x"),
        ("dependencies", "é"),
        ("dependencies", ""),
        ("args", ""),
        ("args", "-x \n"),
        ("args", "a\x00"),
    ],
)
async def test_its_patterns_say_what_the_server_refuses(
    document: Any, field: str, value: str
) -> None:
    schema = document["components"]["schemas"]["RunRequest"]["properties"][field]
    pattern = schema.get("pattern") or schema["items"]["pattern"]
    body = {**CODE, field: [value] if "items" in schema else value}
    try:
        parse_run(json.dumps(body).encode(), LIMITS)
    except RequestError:
        accepted = False
    else:
        accepted = True
    assert bool(re.search(pattern, value)) is accepted
