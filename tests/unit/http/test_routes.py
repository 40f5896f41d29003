"""The HTTP contract, over a real socket."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from typing import TYPE_CHECKING, Any

import pytest

from pgexec.http.errors import POOL
from pool import errors as pool
from pool.job import Status
from tests.unit.http.rig import make_result, read_answer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.http.rig import Answer, Running, Serve

CODE = {"language": "python", "code": "print(1)", "dependencies": []}
HEAD = b"POST /run HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


async def test_ping_answers_pong(server: Running) -> None:
    answer = await server.get("/ping")
    assert (answer.status, answer.json) == (200, {"message": "pong"})
    assert answer.headers["Content-Type"].startswith("application/json")


async def test_a_run_is_answered_with_exactly_the_fields_of_the_contract(server: Running) -> None:
    answer = await server.post(CODE)
    assert answer.status == 200
    assert answer.json == {
        "data": "1\n",
        "error": None,
        "status": "ok",
        "stdout": "1\n",
        "stderr": "",
        "exit_code": 0,
        "signal": None,
        "duration_s": 0.001,
        "cpu_s": 0.0005,
        "peak_memory_bytes": 9_000_000,
        "truncated": False,
    }


async def test_the_service_gets_what_the_client_sent(server: Running) -> None:
    await server.post(
        {
            "language": "python",
            "code": "é\r\n\x01",
            "dependencies": ["requests>=2"],
            "stdin": "in",
            "timeout_s": 1.5,
            "fresh": True,
        }
    )
    (request,) = server.service.requests
    assert request.code == "é\r\n\x01"
    assert request.dependencies == ["requests>=2"]
    assert (request.stdin, request.timeout_s, request.fresh) == ("in", 1.5, True)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"status": Status.ERROR, "exit_code": 3}, "exit status 3"),
        ({"status": Status.TIMEOUT, "exit_code": None, "signal": 9}, "timed out after 30 s"),
        ({"status": Status.MEMORY_LIMIT, "signal": 9}, "out of memory (limit 256 MiB)"),
        ({"status": Status.OUTPUT_LIMIT, "signal": 9}, "output over the limit of 1 MiB"),
        ({"status": Status.KILLED, "signal": 11}, "killed by signal 11 (SIGSEGV)"),
        ({"status": Status.KILLED, "signal": 60}, "killed by signal 60"),
    ],
)
async def test_how_a_run_ended_is_said_in_a_sentence(
    server: Running, changes: Any, sentence: str
) -> None:
    server.service.result = make_result(**changes)
    answer = await server.post(CODE)
    assert answer.status == 200
    assert answer.json["error"] == sentence
    assert answer.json["status"] == changes["status"]


async def test_a_timeout_names_the_limit_of_the_request(server: Running) -> None:
    server.service.result = make_result(Status.TIMEOUT)
    answer = await server.post({**CODE, "timeout_s": 0.5})
    assert answer.json["error"] == "timed out after 0.5 s"


async def test_output_that_is_no_utf8_is_shown_with_replacement_characters(server: Running) -> None:
    server.service.result = make_result(data=b"a\xffb\xfe", stdout=b"a\xff", stderr=b"b\xfe")
    answer = await server.post(CODE)
    assert answer.json["data"] == "a\ufffdb\ufffd"
    assert (answer.json["stdout"], answer.json["stderr"]) == ("a\ufffd", "b\ufffd")


async def test_data_is_stderr_when_there_is_nothing_else(server: Running) -> None:
    server.service.result = make_result(data=b"oops", stdout=b"", stderr=b"oops")
    assert (await server.post(CODE)).json["data"] == "oops"


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (pool.PoolClosed("draining"), 503, "draining"),
        (pool.PoolSaturated("the queue is full", retry_after_s=2.2), 503, "saturated"),
        (pool.LeaseTimeout("no container came free", retry_after_s=0), 503, "lease_timeout"),
        (pool.TenantSaturated("8 runs already", retry_after_s=2.2), 429, "too_many_runs"),
        (pool.EngineUnavailable("no engine"), 503, "engine_unavailable"),
        (pool.EngineError("no"), 503, "engine_error"),
        (pool.ImageMissing("no image"), 503, "image_missing"),
        (pool.ContainerLost("the container ended"), 503, "container_lost"),
        (pool.RunnerProtocolError("garbage"), 503, "runner_error"),
        (pool.InstallError("pip failed", log="ERROR: no such package"), 422, "install_failed"),
        (pool.PoolError("?"), 500, "internal"),
    ],
)
async def test_each_error_of_the_pool_has_its_answer(
    server: Running, error: Exception, status: int, code: str
) -> None:
    server.service.error = error
    answer = await server.post(CODE)
    assert answer.status == status
    assert set(answer.json) == {"data", "error", "code"}
    assert answer.json["data"] is None
    assert answer.json["code"] == code
    assert answer.json["error"].startswith(str(error))
    assert ("Retry-After" in answer.headers) == (status in {429, 503})
    if status in {429, 503}:
        assert int(answer.headers["Retry-After"]) >= 1


@pytest.mark.parametrize(("kind", "status", "code"), POOL)
async def test_a_503_means_that_nothing_ran_and_what_was_lost_is_a_502(
    server: Running, kind: type[pool.PoolError], status: int, code: str
) -> None:
    waits = {"retry_after_s": 2.2} if issubclass(kind, pool.PoolSaturated) else {}
    server.service.error = error = kind("it is so", **waits)
    for begun, expected in ((False, status), (True, 502 if status in {429, 503} else status)):
        error.begun = begun
        answer = await server.post(CODE)
        assert (answer.status, answer.json["code"]) == (expected, code)
        assert ("Retry-After" in answer.headers) == (expected in {429, 503})


async def test_retry_after_is_rounded_up(server: Running) -> None:
    server.service.error = pool.PoolSaturated("full", retry_after_s=2.2)
    assert (await server.post(CODE)).headers["Retry-After"] == "3"


async def test_the_installers_last_lines_reach_the_client(server: Running) -> None:
    server.service.error = pool.InstallError("pip failed", log="ERROR: no such package")
    assert "ERROR: no such package" in (await server.post(CODE)).json["error"]


async def test_a_bug_is_a_neutral_500_and_a_traceback_in_the_log(
    server: Running, caplog: pytest.LogCaptureFixture
) -> None:
    server.service.error = ZeroDivisionError("secret detail")
    answer = await server.post(CODE, **{"X-Request-ID": "find-me"})
    assert (answer.status, answer.json["code"]) == (500, "internal")
    assert "secret" not in answer.json["error"]
    (record,) = [record for record in caplog.records if record.exc_info]
    assert vars(record)["fields"] == {"request_id": "find-me"}
    assert (await server.get("/ping")).status == 200


async def test_a_timeout_error_inside_is_a_500_too(server: Running) -> None:
    server.service.error = TimeoutError()
    answer = await server.post(CODE)
    assert (answer.status, answer.json["code"]) == (500, "internal")


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "application/json; charset=utf-8", 'Application/JSON;charset="UTF-8"'],
)
async def test_json_is_taken_however_it_is_spelled(server: Running, content_type: str) -> None:
    assert (await server.post(CODE, **{"Content-Type": content_type})).status == 200


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/json; charset=latin-1", "application/x-www-form-urlencoded", ";"],
)
async def test_what_is_not_json_is_a_415(server: Running, content_type: str) -> None:
    answer = await server.post(CODE, **{"Content-Type": content_type})
    assert (answer.status, answer.json["code"]) == (415, "not_json")


async def test_no_content_type_is_a_415(server: Running) -> None:
    answer = await server.raw(b"POST /run HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
    assert answer.status == 415


async def test_a_compressed_body_is_a_415(server: Running) -> None:
    answer = await server.post(b"x", **{"Content-Encoding": "gzip"})
    assert (answer.status, answer.json["code"]) == (415, "encoded_body")


@pytest.mark.parametrize("encoding", [b"Identity", b"identity", b""])
async def test_identity_is_no_encoding(server: Running, encoding: bytes) -> None:
    body = json.dumps(CODE).encode()
    head = HEAD + b"Content-Encoding: %s\r\nContent-Length: %d\r\n\r\n" % (encoding, len(body))
    assert (await server.raw(head + body)).status == 200


async def test_an_unknown_path_is_a_404_in_json(server: Running) -> None:
    answer = await server.get("/nowhere", Accept="text/html")
    assert (answer.status, answer.json["code"]) == (404, "not_found")


async def test_a_wrong_method_is_a_405_that_names_the_right_one(server: Running) -> None:
    answer = await server.get("/run")
    assert (answer.status, answer.json["code"]) == (405, "method_not_allowed")
    assert answer.headers["Allow"] == "POST"


async def test_head_is_answered_like_get(server: Running) -> None:
    assert (await server.get("/ping", method="HEAD")).status == 200


async def test_an_unknown_expectation_is_a_417_in_json(server: Running) -> None:
    head = HEAD + b"Expect: wonders\r\nX-Request-ID: abc\r\nContent-Length: 0\r\n\r\n"
    answer = await server.raw(head)
    assert (answer.status, answer.json["code"]) == (417, "expectation_failed")
    assert answer.headers["X-Request-ID"] == "abc"


async def test_a_client_that_asks_before_it_sends_is_told_to_go_on(server: Running) -> None:
    body = json.dumps(CODE).encode()
    reader, writer = await server.connect()
    writer.write(HEAD + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body))
    assert (await read_answer(reader)).status == 100
    writer.write(body)
    assert (await read_answer(reader)).status == 200


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (HEAD + b"Content-Length: 99000000\r\n", 413),
        (b"POST /run HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n", 415),
    ],
)
async def test_a_body_that_would_be_refused_is_not_asked_for(
    server: Running, head: bytes, status: int
) -> None:
    answer = await server.raw(head + b"Expect: 100-continue\r\n\r\n")
    assert answer.status == status
    assert answer.headers["Connection"] == "close"
    assert answer.headers["X-Request-ID"]


async def test_without_a_key_no_body_is_asked_for(serve: Serve) -> None:
    server = await serve(api_keys="alice:secret")
    answer = await server.raw(HEAD + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    assert (answer.status, answer.headers["Connection"]) == (401, "close")


async def test_readyz_gives_the_reason_why_not(server: Running) -> None:
    assert (await server.get("/readyz")).status == 200
    server.service.reason = "the engine is away"
    answer = await server.get("/readyz")
    assert (answer.status, answer.json["error"]) == (503, "the engine is away")
    assert answer.headers["Retry-After"] == "1"
    assert (await server.get("/healthz")).status == 200


async def test_readyz_may_be_asked_for_more_than_a_place_in_the_queue(server: Running) -> None:
    asked = ("/readyz", "/readyz?full=ok", "/readyz?full=")
    server.service.reason = "2 runs are already waiting for a container"
    assert [(await server.get(one)).status for one in asked] == [503, 503, 400]
    server.service.full = True
    assert [(await server.get(one)).status for one in asked] == [503, 200, 400]


async def test_a_request_id_is_taken_over(server: Running) -> None:
    answer = await server.get("/ping", **{"X-Request-ID": "abc-123"})
    assert answer.headers["X-Request-ID"] == "abc-123"


@pytest.mark.parametrize("sent", ["x" * 129, "é", ""])
async def test_an_unfit_request_id_is_replaced(server: Running, sent: str) -> None:
    answer = await server.get("/ping", **{"X-Request-ID": sent})
    assert answer.headers["X-Request-ID"] not in ("", sent)


async def test_made_up_request_ids_differ(server: Running) -> None:
    ids = {(await server.get("/ping")).headers["X-Request-ID"] for _ in range(5)}
    assert len(ids) == 5


async def test_errors_have_a_request_id_too(server: Running) -> None:
    assert (await server.get("/nowhere")).headers["X-Request-ID"]
    assert (await server.raw(b"garbage\r\n\r\n")).headers["X-Request-ID"]


async def test_the_server_does_not_say_what_it_is_made_of(server: Running) -> None:
    for answer in (await server.get("/ping"), await server.raw(b"garbage\r\n\r\n")):
        assert answer.headers["Server"] == "pgexec"


async def test_without_keys_there_is_one_tenant(server: Running) -> None:
    await server.post(CODE, Authorization="Bearer whatever")
    assert server.service.tenants == [""]


async def test_with_keys_only_their_owners_run_code(serve: Serve) -> None:
    server = await serve(api_keys="alice:one,bob:two")
    for headers in ({}, {"Authorization": "Bearer three"}, {"Authorization": "Basic one"}):
        answer = await server.post(CODE, **headers)
        assert (answer.status, answer.json["code"]) == (401, "unauthorized")
        assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert (await server.post(CODE, Authorization="bearer two")).status == 200
    assert (await server.post(CODE, Authorization="Bearer one")).status == 200
    assert server.service.tenants == ["bob", "alice"]


async def test_keys_may_come_hashed_from_a_file(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"# ours\nalice:{hashlib.sha256(b'one').hexdigest()}\n")
    server = await serve(api_keys=f"file:{path}")
    assert (await server.post(CODE, Authorization="Bearer one")).status == 200
    assert (await server.post(CODE, Authorization="Bearer two")).status == 401


async def test_probes_stay_open_and_metrics_close_by_a_setting(serve: Serve) -> None:
    server = await serve(api_keys="alice:one", metrics_open=False)
    for path in ("/ping", "/healthz", "/readyz"):
        assert (await server.get(path)).status == 200
    assert (await server.get("/metrics")).status == 401
    assert (await server.get("/metrics", Authorization="Bearer one")).status == 200


async def test_a_request_leaves_one_line_in_the_log(
    server: Running, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pgexec.request")
    await server.post({**CODE, "code": "print('mine')"}, **{"X-Request-ID": "abc"})
    await server.get("/ping")  # the line above follows its answer
    record = next(one for one in caplog.records if one.name == "pgexec.request")
    fields = vars(record)["fields"]
    assert fields.pop("ms") > 0
    assert fields == {
        "request_id": "abc",
        "method": "POST",
        "path": "/run",
        "status": 200,
        "run_status": "ok",
        "run_ms": 1.0,
        "queue_ms": 0.0,
        "lease_ms": 1.5,
        "source": "idle",
        "container": "c0ffeec0ffee",
    }


def timing(answer: Answer) -> dict[str, float]:
    """Return the entries of Server-Timing in their order, in milliseconds."""
    pairs = (item.split(";dur=") for item in answer.headers["Server-Timing"].split(", "))
    return {name: float(milliseconds) for name, milliseconds in pairs}


async def test_a_run_says_where_its_time_went(server: Running) -> None:
    shown = timing(await server.post(CODE))
    assert list(shown) == ["queue", "lease", "run", "total"]
    assert (shown["queue"], shown["lease"], shown["run"]) == (0.0, 1.5, 1.0)
    assert shown["total"] > 0


async def test_an_installation_and_a_start_are_told_where_they_happened(
    server: Running, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pgexec.request")
    server.service.install_s, server.service.start_s = 2.0, 0.25
    shown = timing(await server.post(CODE))
    assert list(shown) == ["queue", "start", "install", "lease", "run", "total"]
    assert (shown["install"], shown["start"]) == (2000.0, 250.0)
    await server.get("/ping")
    fields = vars(caplog.records[0])["fields"]
    assert (fields["install_ms"], fields["start_ms"]) == (2000.0, 250.0)


async def test_what_failed_says_so_too_as_far_as_it_got(
    server: Running, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pgexec.request")
    server.service.error = pool.ContainerLost("the container ended")
    assert list(timing(await server.post(CODE))) == ["queue", "lease", "total"]
    await server.get("/ping")
    fields = vars(caplog.records[0])["fields"]
    assert (fields["code"], fields["container"]) == ("container_lost", "c0ffeec0ffee")
    assert fields["lease_ms"] == 1.5


async def test_every_answer_has_a_request_id_and_a_timing(server: Running) -> None:
    for answer in (
        await server.get("/ping"),
        await server.get("/nowhere"),
        await server.post({}),
        await server.raw(b"garbage\r\n\r\n"),
        await server.raw(HEAD + b"Expect: wonders\r\nContent-Length: 0\r\n\r\n"),
    ):
        assert answer.headers["X-Request-ID"]
        assert list(timing(answer)) == ["total"]


async def test_every_answer_has_the_name_of_a_server_that_has_one(
    serve: Serve, server: Running
) -> None:
    assert "X-Pgexec-Server" not in (await server.get("/ping")).headers
    named = await serve(server_name="one", max_connections=1)
    for answer in (
        await named.post(CODE),
        await named.post(CODE, Accept="text/event-stream"),
        await named.get("/nowhere"),
        await named.raw(b"garbage\r\n\r\n"),
        await named.raw(HEAD + b"Expect: wonders\r\nContent-Length: 0\r\n\r\n"),
    ):
        assert answer.headers["X-Pgexec-Server"] == "one"
    named.service.gate = asyncio.Event()
    running = asyncio.create_task(named.post(CODE))
    async with asyncio.timeout(20):
        while len(named.service.requests) < 3:  # nobody tells
            await asyncio.sleep(0)
    refused = await named.raw(b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (refused.status, refused.headers["X-Pgexec-Server"]) == (503, "one")
    named.service.gate.set()
    await running


async def test_neither_code_nor_output_is_logged(
    server: Running, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    await server.post({**CODE, "code": "SECRET = 1"})
    await server.post(b'{"language": "python", "code": "SECRET", "timeout_s": "SECRET"}')
    await server.get("/ping")
    assert "SECRET" not in caplog.text


async def test_runs_are_counted_by_how_they_ended(server: Running) -> None:
    await server.post(CODE)
    server.service.result = make_result(Status.ERROR, exit_code=1)
    await server.post(CODE)
    await server.post({})
    text = (await server.get("/metrics")).body.decode()
    assert 'pgexec_runs_total{profile="python",status="ok"} 1.0' in text
    assert 'pgexec_runs_total{profile="python",status="error"} 1.0' in text
    assert "pgexec_overhead_seconds_count 2.0" in text
    assert 'pgexec_requests_total{path="/run",status="400"} 1.0' in text


async def test_clients_cannot_make_up_label_values(server: Running) -> None:
    for number in range(5):
        await server.get(f"/made-up-{number}", method=f"VERB{number}"[:4])
    text = (await server.get("/metrics")).body.decode()
    assert "made-up" not in text
    assert 'path="other"' in text


async def test_a_client_that_hangs_up_ends_its_run(
    server: Running, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pgexec.request")
    server.service.gate = asyncio.Event()
    body = json.dumps(CODE).encode()
    _, writer = await server.connect()
    writer.write(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    async with asyncio.timeout(20):
        await server.service.entered.wait()
        writer.close()
        await server.service.cancelled.wait()
    await server.get("/ping")
    codes = [vars(record)["fields"].get("code") for record in caplog.records]
    assert [code for code in codes if code] == ["client_gone"]
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_closing_lets_an_answer_be_written(serve: Serve) -> None:
    server = await serve()
    server.service.gate = asyncio.Event()
    request = asyncio.create_task(server.post(CODE))
    await server.service.entered.wait()
    server.server.stop_listening()
    server.service.gate.set()
    assert (await request).status == 200


@pytest.mark.parametrize(
    ("field", "value", "wanted"),
    [
        ("memory_limit_bytes", 0, "a whole number from 1 to 16777216"),
        ("memory_limit_bytes", 16777217, "a whole number from 1 to 16777216"),
        ("cpu_time_s", 0, "a number above 0 and at most 10"),
        ("cpu_time_s", 10.5, "a number above 0 and at most 10"),
    ],
)
async def test_a_limit_above_that_of_its_language_is_refused(
    serve: Serve, field: str, value: float, wanted: str
) -> None:
    server = await serve(run_timeout_s=5, cpus=2, memory_limit="16MiB")
    answer = await server.post({**CODE, field: value})
    assert (answer.status, answer.json["code"]) == (400, "invalid_field")
    assert answer.json["error"] == f"field '{field}' must be {wanted}, not {value}"
    assert server.service.requests == []
