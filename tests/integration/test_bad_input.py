"""What a client gets wrong: its status, one clear sentence in JSON, and a server as it was."""

from __future__ import annotations

import asyncio
import json
import os
from typing import TYPE_CHECKING

import pytest

from tests.integration.server import read_answer, run_request, running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.server import Answer, Server

GOOD: dict[str, object] = {"language": "python", "code": "print(1)"}
BODY = json.dumps(GOOD).encode()
HEAD = b"POST /run HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
JSON = {"Content-Type": "application/json"}

BODIES = {
    "nothing": (b"", 400, "invalid_json", "the body is empty"),
    "not JSON": (b"print(1)", 400, "invalid_json", "not valid JSON"),
    "half of JSON": (BODY[:-5], 400, "invalid_json", "not valid JSON"),
    "JSON with a tail": (BODY + b"x", 400, "invalid_json", "not valid JSON"),
    "a deep nest": (b"[" * 200_000, 400, "invalid_json", "recursion limit"),
    "a deep nest in a field": (
        b'{"language": "python", "code": ' + b"[" * 200_000, 400, "invalid_json", "recursion",
    ),
    "invalid UTF-8": (b'{"language": "python", "code": "\xff\xfe"}', 400, "invalid_json", ""),
    "UTF-16": (json.dumps(GOOD).encode("utf-16"), 400, "invalid_json", ""),
    "half of a surrogate pair": (
        b'{"language": "python", "code": "\\ud800"}', 400, "invalid_json", "surrogate",
    ),
    "NaN": (b'{"language": "python", "code": "1", "timeout_s": NaN}', 400, None, ""),
    "a number too large": (
        b'{"language": "python", "code": "1", "timeout_s": 1e999}', 400, None, "",
    ),
    "a number of many digits": (
        b'{"language": "python", "code": "1", "timeout_s": ' + b"9" * 9999 + b"}", 400, None, "",
    ),
    "a list": (b"[]", 400, "invalid_json", "not a list"),
    "null": (b"null", 400, "invalid_json", "not null"),
    "a string": (b'"print(1)"', 400, "invalid_json", "not a string"),
}  # fmt: skip

FIELDS: dict[str, tuple[dict[str, object], str, str]] = {
    "no language": ({"language": ...}, "missing_field", "'language'"),
    "no code": ({"code": ...}, "missing_field", "'code'"),
    "a language that is a number": ({"language": 3}, "invalid_field", "'language'"),
    "code that is null": ({"code": None}, "invalid_field", "'code'"),
    "code that is a list": ({"code": ["print(1)"]}, "invalid_field", "'code'"),
    "no code in it": ({"code": ""}, "empty_code", "'code'"),
    "blank code": ({"code": " \n\t\r\n"}, "empty_code", "'code'"),
    "another language": ({"language": "ruby"}, "unsupported_language", "'ruby'"),
    "a language in capitals": ({"language": "RUBY"}, "unsupported_language", "'RUBY'"),
    "an unknown field": ({"cod": "1"}, "unknown_field", "'cod'"),
    "dependencies that are a string": ({"dependencies": "six"}, "invalid_field", "'dependencies'"),
    "dependencies with a number": ({"dependencies": ["six", 1]}, "invalid_field", "dependencies"),
    "too many dependencies": ({"dependencies": ["six"] * 65}, "invalid_field", "dependencies"),
    "an option as a dependency": ({"dependencies": ["-r x"]}, "bad_requirement", "'-r x'"),
    "a URL as a dependency": ({"dependencies": ["https://x/y.whl"]}, "bad_requirement", "https"),
    "a path as a dependency": ({"dependencies": ["./six"]}, "bad_requirement", "'./six'"),
    "stdin that is a number": ({"stdin": 1}, "invalid_field", "'stdin'"),
    "no time": ({"timeout_s": 0}, "invalid_field", "'timeout_s'"),
    "negative time": ({"timeout_s": -1}, "invalid_field", "'timeout_s'"),
    "more time than there is": ({"timeout_s": 31}, "invalid_field", "30"),
    "time as a string": ({"timeout_s": "1"}, "invalid_field", "'timeout_s'"),
    "time as a boolean": ({"timeout_s": True}, "invalid_field", "'timeout_s'"),
    "fresh as a number": ({"fresh": 1}, "invalid_field", "'fresh'"),
}


def refused(answer: Answer, status: int, code: str | None = None) -> None:
    """Hold an answer against the shape that every refusal has."""
    assert answer.status == status, answer.body
    assert answer.headers["Content-Type"].startswith("application/json")
    assert set(answer.json) == {"data", "error", "code"}
    assert answer.json["data"] is None
    if code is not None:
        assert answer.code == code
    assert answer.error
    assert "\n" not in answer.error
    assert "Traceback" not in answer.error
    assert len(answer.error) < 400


@pytest.mark.parametrize("what", BODIES)
async def test_a_body_that_is_no_request_is_refused_in_one_sentence(
    server: Server, what: str
) -> None:
    body, status, code, part = BODIES[what]
    head = HEAD + b"Content-Length: %d\r\n\r\n" % len(body)
    answer = await server.raw(head + body)
    refused(answer, status, code)
    assert part in answer.error
    await server.works()


@pytest.mark.parametrize("what", FIELDS)
async def test_a_field_that_is_wrong_is_named(server: Server, what: str) -> None:
    changes, code, part = FIELDS[what]
    body = {name: value for name, value in (GOOD | changes).items() if value is not ...}
    answer = await server.request("POST", "/run", json=body)
    refused(answer, 400, code)
    assert part in answer.error
    await server.works()


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "", "application/xml"]
)
async def test_another_content_type_is_a_415(server: Server, content_type: str) -> None:
    answer = await server.request("POST", "/run", data=BODY, headers={"Content-Type": content_type})
    refused(answer, 415)
    assert "application/json" in answer.error
    await server.works()


async def test_a_body_over_the_limit_is_a_413_before_it_is_read(server: Server) -> None:
    refused(await server.raw(HEAD + b"Content-Length: 99999999999\r\n\r\n"), 413, "body_too_large")
    refused(await server.run("#" * ((1 << 20) + 1)), 413, "code_too_large")
    refused(await server.run("pass", stdin="x" * ((1 << 20) + 1)), 413, "stdin_too_large")
    await server.works()


async def test_a_body_without_end_is_a_413(server: Server) -> None:
    async with server.connection(HEAD + b"Transfer-Encoding: chunked\r\n\r\n") as (reader, writer):

        async def flood() -> None:
            while True:
                writer.write(b"10000\r\n" + b" " * 65536 + b"\r\n")
                await writer.drain()

        flooding = asyncio.create_task(flood())
        refused(await read_answer(reader), 413, "body_too_large")
        flooding.cancel()
        await asyncio.wait([flooding])
        assert flooding.cancelled() or isinstance(flooding.exception(), OSError)
    await server.works()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/run", 405),
        ("PUT", "/run", 405),
        ("DELETE", "/ping", 405),
        ("POST", "/run/", 404),
        ("GET", "/../../etc/passwd", 404),
        ("GET", "/%00", 404),
    ],
)
async def test_what_is_not_there_is_refused_in_json(
    server: Server, method: str, path: str, status: int
) -> None:
    refused(await server.request(method, path), status)


@pytest.mark.parametrize(
    "data",
    [
        b"garbage\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
        b"GET /ping HTTP/9.9\r\nHost: x\r\n\r\n",
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
    ids=["garbage", "TLS", "version", "length", "smuggling", "chunks"],
)
async def test_what_is_no_http_is_a_400(server: Server, data: bytes) -> None:
    refused(await server.raw(data), 400, "bad_request")
    await server.works()


async def test_noise_of_any_kind_leaves_the_server_as_it_was(server: Server) -> None:
    async def send(data: bytes) -> bytes:
        async with server.connection(data) as (reader, writer):
            writer.write_eof()
            async with asyncio.timeout(30):
                return await reader.read()

    noise = [os.urandom(200) for _ in range(20)]
    noise += [run_request("print(1)")[:end] for end in range(0, 160, 8)]
    for answer in await asyncio.gather(*map(send, noise)):
        assert answer == b"" or answer.startswith(b"HTTP/1."), answer
    await server.works()
    await server.at_rest()


# --- slow clients -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def impatient(first_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run a server that gives a request half a second to arrive."""
    settings = {"REQUEST_TIMEOUT_S": "0.5", "POOL_MIN_IDLE": "1", "POOL_MAX_CONTAINERS": "1"}
    settings |= {"IMAGE": first_image, "NETWORK": "none"}
    with running(tmp_path_factory.mktemp("impatient"), settings) as server:
        yield server


async def test_a_body_that_stops_halfway_is_a_408(impatient: Server) -> None:
    head = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY)
    async with impatient.connection(head + BODY[:20]) as (reader, _):
        refused(await read_answer(reader), 408, "request_timeout")
        assert await reader.read() == b""
    await impatient.works()


async def test_a_client_that_sends_a_byte_at_a_time_is_a_408(impatient: Server) -> None:
    async with impatient.connection(b"POST /run HTTP/1.1\r\nHost: x\r\n") as (reader, writer):

        async def dribble() -> None:
            while True:
                writer.write(b"A")
                await asyncio.sleep(0.02)

        dribbling = asyncio.create_task(dribble())
        refused(await read_answer(reader), 408, "request_timeout")
        dribbling.cancel()
        await asyncio.wait([dribbling])
    await impatient.works()


async def test_many_slow_clients_keep_nobody_from_being_served(impatient: Server) -> None:
    async def slow() -> int:
        async with impatient.connection(run_request("print(1)")[:-9]) as (reader, _):
            return (await read_answer(reader)).status

    slow_ones = [asyncio.create_task(slow()) for _ in range(200)]
    for _ in range(5):
        await impatient.works()
    assert set(await asyncio.gather(*slow_ones)) == {408}
    await impatient.at_rest()


async def test_a_body_that_is_given_up_halfway_starts_nothing(impatient: Server) -> None:
    leases = "pgexec_leases_total{source=idle}"
    before = (await impatient.metrics()).get(leases, 0)
    for _ in range(10):
        async with impatient.connection(run_request("print(1)")[:-9]):
            pass
    await impatient.works()
    assert (await impatient.metrics())[leases] == before + 1


async def test_a_client_that_is_slow_to_read_gets_all_of_it(impatient: Server) -> None:
    async with impatient.connection(run_request("print('x' * 1_000_000)")) as (reader, _):
        await impatient.works()  # others are not kept waiting
        answer = await read_answer(reader)
    assert answer.json["data"] == "x" * 1_000_000 + "\n"
