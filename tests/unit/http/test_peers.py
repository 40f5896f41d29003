"""The APIs of peers: what comes of their requests, and errors in their own form."""

from __future__ import annotations

import asyncio
import base64
import json
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openapi_spec_validator import validate
from pydantic_core import from_json, to_json

from pgexec.http import excerpt, peers, texts
from pgexec.http.compat import sandboxfusion
from pgexec.http.compat.piston import satisfies
from pgexec.http.delivery import cut
from pool.errors import PoolSaturated
from pool.inside.patterns import matcher
from pool.job import OutputFile, Status
from tests.unit.http.rig import make_result

if TYPE_CHECKING:
    from tests.unit.http.rig import Running, Serve

ALL = "piston,sandboxfusion,dify"
PISTON = {"language": "py", "version": "*", "files": [{"content": "x"}]}
FUSION = {"language": "python", "code": "x"}
DIFY = {"language": "python3", "code": "x"}
PATHS = {
    "/api/v2/execute": PISTON,
    "/api/v2/piston/execute/": PISTON,
    "/run_code": FUSION,
    "/v1/sandbox/run": DIFY,
}


@pytest.fixture
async def compatible(serve: Serve) -> Running:
    server = await serve(compat=ALL)
    server.service.result = make_result(stdout=b"3.13.1", data=b"3.13.1")
    assert (await server.get("/api/v2/runtimes")).json == [
        {"language": "python", "version": "3.13.1", "aliases": ["py", "python3"]}
    ]
    server.service.requests.clear()
    return server


async def post(server: Running, path: str, body: Any, **headers: str) -> tuple[int, Any]:
    sent = BytesIO(json.dumps(body).encode())
    headers["Content-Type"] = "application/json"
    async with server.session.post(server.url + path, data=sent, headers=headers) as response:
        return response.status, json.loads(await response.read())


async def test_peers_are_off_by_default(server: Running) -> None:
    for path, body in PATHS.items():
        assert (await post(server, path, body))[0] == 404
    assert (await server.get("/health")).status == 404


async def test_one_peer_does_not_bring_the_others(serve: Serve) -> None:
    server = await serve(compat="dify")
    assert (await post(server, "/v1/sandbox/run", DIFY))[0] == 200
    assert (await post(server, "/run_code", FUSION))[0] == 404


@pytest.mark.parametrize(
    ("version", "fits"),
    [
        *[(text, True) for text in ("*", "3", "3.x", "3.13", "3.13.1", "^3.10.0", "~3.13.0")],
        *[(text, True) for text in (">=3.8 <4", "2 || 3", ">3.12", "v3.13.1", ">= 3.9", "<=3.13")],
        *[(text, False) for text in ("2", "3.1", "3.10.0", "^2.7", "~3.12", ">3.13", "latest", "")],
    ],
)
def test_a_version_is_a_range_of_semver(version: str, fits: bool) -> None:  # noqa: FBT001
    assert satisfies("3.13.1", version) is fits


async def test_a_request_of_pistons_becomes_one_of_ours(compatible: Running) -> None:
    body = {
        **PISTON,
        "files": [
            {"name": "d.bin", "content": "ff00", "encoding": "hex"},
            {"name": None, "content": "code", "encoding": "utf8"},
            {"content": "text"},
        ],
        "stdin": "no end",
        "args": ["a"],
        "run_timeout": 1500,
        "run_memory_limit": -1,
    }
    status, document = await post(compatible, "/api/v2/execute", body)
    assert (status, document["version"], set(document)) == (
        200,
        "3.13.1",
        {"language", "version", "run"},
    )
    (request,) = compatible.service.requests
    assert (request.code, request.stdin, request.args) == ("code", "no end\n", ["a"])
    files = [(file.name, file.data) for file in request.files]
    assert files == [("d.bin", b"\xff\0"), ("file2.code", b"text")]
    assert (request.timeout_s, request.memory_limit_bytes) == (1.5, None)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"language": "perl"}, "perl-* runtime is unknown"),
        ({"version": "2.7"}, "py-2.7 runtime is unknown"),
        ({"version": None}, "version is required as a string"),
        ({"files": []}, "files is required as an array"),
        ({"files": [{"content": "eA==", "encoding": "base64"}]}, "at least one utf8"),
        ({"files": [{"content": "x"}, {"content": "q", "encoding": "hex"}]}, "not hex"),
        ({"run_timeout": 30_001}, "cannot exceed the configured limit of 30000"),
        ({"run_memory_limit": 1 << 40}, "cannot exceed"),
        ({"run_timeout": "1"}, "must be a number"),
        ({"args": [1]}, "'args' must be a list of strings"),
    ],
)
async def test_a_wrong_request_gets_pistons_form_of_error(
    compatible: Running, change: dict[str, Any], part: str
) -> None:
    status, document = await post(compatible, "/api/v2/execute", {**PISTON, **change})
    assert (status, set(document)) == (400, {"message"})
    assert part in document["message"]
    assert not compatible.service.requests


async def test_ends_are_told_as_piston_tells_them(compatible: Running) -> None:
    ends = [
        (make_result(Status.ERROR, exit_code=3), ("RE", 3, None)),
        (make_result(Status.TIMEOUT, exit_code=None, signal=9), ("TO", None, "SIGKILL")),
        (make_result(Status.KILLED, exit_code=None, signal=11), ("SG", None, "SIGSEGV")),
        (make_result(Status.OUTPUT_LIMIT, exit_code=None, signal=9), ("OL", None, "SIGKILL")),
        (make_result(), (None, 0, None)),
    ]
    for result, expected in ends:
        compatible.service.result = result
        _, document = await post(compatible, "/api/v2/execute", PISTON)
        run = document["run"]
        assert (run["status"], run["code"], run["signal"]) == expected


async def test_a_trainers_limits_are_lowered_to_the_servers(compatible: Running) -> None:
    big = {**FUSION, "run_timeout": 600, "memory_limit_MB": 1024}
    assert (await post(compatible, "/run_code", big))[0] == 200
    (request,) = compatible.service.requests
    assert (request.timeout_s, request.memory_limit_bytes) == (30, None)


async def test_what_did_not_run_is_in_each_peers_words(compatible: Running) -> None:
    compatible.service.error = PoolSaturated("full", retry_after_s=2)
    answers = [await post(compatible, path, body) for path, body in PATHS.items()]
    assert [status for status, _ in answers] == [503, 503, 504, 503]
    assert set(answers[0][1]) == {"message"}
    assert set(answers[2][1]) == {"detail"}
    assert answers[3][1]["code"] == -503


async def test_no_other_site_may_use_them(compatible: Running) -> None:
    for path, body in PATHS.items():
        data = json.dumps(body).encode()
        plain = {"Content-Type": "text/plain"}
        async with compatible.session.post(compatible.url + path, data=data, headers=plain) as got:
            assert got.status == (200 if "sandbox" in path else 415)
        strange = {"Origin": "http://evil.example", "Host": "evil.example"}
        status, document = await post(compatible, path, body, **strange)
        assert status == 421 or document["code"] == -421
    assert not compatible.service.requests


async def test_keys_come_as_these_clients_send_them(serve: Serve) -> None:
    server = await serve(compat=ALL, api_keys="alice:secret")
    for headers in (
        {"Authorization": "secret"},
        {"Authorization": "Bearer secret"},
        {"X-Api-Key": "secret"},
    ):
        assert (await post(server, "/run_code", FUSION, **headers))[0] == 200
    for wrong in ({}, {"X-Api-Key": "other"}, {"Authorization": "Bearer "}):
        for path, body in PATHS.items():
            assert (await post(server, path, body, **wrong))[0] == 401
    assert (await server.get("/api/v2/runtimes")).status == 401
    assert (await server.get("/health")).body == b'"ok"'
    assert set(server.service.tenants) == {"alice"}


async def test_the_openapi_document_has_them(compatible: Running) -> None:
    document = (await compatible.get("/openapi.json")).json
    validate(document)
    assert set(PATHS) <= set(document["paths"])


async def test_a_long_answer_counts_in_the_budget_of_answers(
    compatible: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = b"x" * (1 << 20)
    compatible.service.result = make_result(stdout=text, data=text)
    held = []
    budget = type(compatible.context.answers)
    hold = budget.hold

    def watched(*args: Any) -> Any:
        held.append(args[0] is compatible.context.answers)
        return hold(*args)

    monkeypatch.setattr(budget, "hold", watched)
    _, document = await post(compatible, "/run_code", FUSION)
    assert document["run_result"]["stdout"] == text.decode()
    assert any(held)


async def test_a_body_of_a_million_values_is_refused_unread(compatible: Running) -> None:
    bulk = {**FUSION, "more": [0] * 100_000}
    status, document = await post(compatible, "/run_code", bulk)
    assert (status, document["detail"][0]["msg"][:20]) == (422, "the body has more va")
    assert not compatible.service.requests


async def test_a_path_that_a_trainer_fetches_is_no_pattern(compatible: Running) -> None:
    body = {**FUSION, "fetch_files": ["./a*?[b].txt"], "files": {"./x": "eA==", "none": None}}
    assert (await post(compatible, "/run_code", body))[0] == 200
    (request,) = compatible.service.requests
    found = matcher(request.collect)
    assert found.fullmatch("a*?[b].txt")
    assert not found.fullmatch("axx[b].txt")
    assert [(file.name, file.data) for file in request.files] == [("x", b"x")]


async def test_no_step_of_the_loop_translates_more_than_a_piece_of_what_is_large(
    compatible: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def read(document: bytes) -> Any:
        sizes.append(len(document))
        return from_json(document)

    def write(value: object) -> bytes:
        document = to_json(value)
        sizes.append(len(document))
        return document

    for module in (peers, excerpt, texts):
        monkeypatch.setattr(module, "from_json", read, raising=False)
        monkeypatch.setattr(module, "to_json", write, raising=False)
    data = bytes(range(256)) * (1 << 14)
    compatible.service.result = make_result(
        stdout=b"\x01" * (1 << 20),
        data=b"\x01" * (1 << 20),
        files=[OutputFile("out", len(data), data)],
    )
    content = base64.b64encode(data).decode()
    body = {**FUSION, "files": {"in": content}, "fetch_files": ["out"]}
    status, document = await post(compatible, "/run_code", body)
    assert (status, document["files"]) == (200, {"out": content})
    assert document["run_result"]["stdout"] == "\x01" * (1 << 20)
    (request,) = compatible.service.requests
    assert request.files[0].data == data
    assert sum(sizes) > 2 * len(data)  # the texts were counted
    assert max(sizes) <= 2 * excerpt.PIECE_BYTES


async def test_a_long_text_that_a_trainer_fetches_becomes_base64_in_turns(
    compatible: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = 0

    async def counted() -> None:
        nonlocal turns
        turns += 1

    monkeypatch.setattr(sandboxfusion, "turn", counted)
    text = ("0123456789\u20ac" * 20_000).encode()
    compatible.service.result = make_result(files=[OutputFile("out", len(text), text)])
    _, document = await post(compatible, "/run_code", {**FUSION, "fetch_files": ["out"]})
    assert document["files"] == {"out": base64.b64encode(text).decode()}
    assert turns == len(text) // (24 << 10)


TEXTS = st.text(max_size=50).map(lambda text: text * 20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 60), 1 << 60) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
)


@given(value=VALUES, ascii_only=st.booleans(), piece=st.integers(13, 400))
def test_a_value_is_the_same_however_its_json_is_cut(
    value: object, *, ascii_only: bool, piece: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(texts, "PIECE_BYTES", piece)
        patch.setattr(excerpt, "PIECE_BYTES", piece)
        patch.setattr(excerpt, "LONG_BYTES", 0)
        patch.setattr(excerpt, "_TAKEN_BYTES", 100)
        assert b"".join(cut(asyncio.run(texts.json_value(value)))) == to_json(value)
        body = json.dumps(value, ensure_ascii=ascii_only).encode()
        assert asyncio.run(excerpt.parse_json(body)) == value


async def test_what_peers_tell_of_the_server_is_held_to_its_names(compatible: Running) -> None:
    """A page of a site that points its name here sends no `Origin` with a GET."""
    for path in ("/api/v2/runtimes", "/api/v2/piston/runtimes", "/v1/sandbox/dependencies"):
        answer = await compatible.get(path, Host="evil.example")
        assert answer.status == 421 or answer.json["code"] == -421, path
    assert (await compatible.get("/health", Host="evil.example")).status == 200
