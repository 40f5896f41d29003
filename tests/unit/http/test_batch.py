"""A request with many inputs, over a real socket: each a run of its own, and nothing is lost."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any

import pytest

from pgexec.contract import BatchEnd, BatchRefusal, BatchResult, BatchRunResult
from pgexec.http.batch import trimmed
from pool.errors import ContainerLost, PoolClosed, PoolSaturated, TenantSaturated
from pool.job import OutputFile, Status
from tests import sse
from tests.unit.http.rig import make_result

if TYPE_CHECKING:
    from pgexec.contract import RunRequest
    from pgexec.service import Progress, Timings
    from pool.job import Result
    from tests.unit.http.rig import Running, Serve

CODE = {"language": "python", "code": "print(input())"}


class Echo:
    """Answers each input with itself, or as its text says."""

    def __init__(self, server: Running) -> None:
        self.gates: dict[str, asyncio.Event] = {}
        self.ran: list[RunRequest] = []
        self.cancelled: list[str] = []
        self._at_once = 0
        self.most_at_once = 0
        self.result: dict[str, Any] = {}
        server.service.run = self.run  # type: ignore[method-assign]

    async def run(
        self,
        request: RunRequest,
        timeout_s: float,
        tenant: str,
        timings: Timings,
        progress: Progress | None = None,
    ) -> Result:
        match request.stdin:
            case "full":
                raise PoolSaturated("full", retry_after_s=3)
            case "busy":
                raise TenantSaturated("8 runs", retry_after_s=3)
            case "closed":
                raise PoolClosed("closed")
        timings.container_id, timings.source, timings.queue_s = "c0ffee" * 10, "idle", 0.0
        self.ran.append(request)
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        assert progress is not None
        progress.leased()
        try:
            await (self.gates[request.stdin].wait() if request.stdin in self.gates else settle())
        except asyncio.CancelledError:
            self.cancelled.append(request.stdin)
            raise
        finally:
            self._at_once -= 1
        timings.lease_s = timings.run_s = 0.001
        if request.stdin == "lost":
            lost = ContainerLost("the container ended")
            lost.begun = True
            raise lost
        text = request.stdin.encode()
        if text == b"bad":
            return make_result(Status.ERROR, exit_code=1, stdout=text, data=text)
        return make_result(stdout=text, data=text, **self.result)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.fixture
def echo(server: Running) -> Echo:
    return Echo(server)


async def results(server: Running, stdins: list[str], **fields: Any) -> list[Any]:
    answer = await server.post({**CODE, "stdins": stdins, **fields})
    assert answer.status == 200, answer.body
    BatchResult.model_validate_json(answer.body)
    items: list[Any] = answer.json["results"]
    assert len(items) == len(stdins)
    return items


async def test_each_input_has_its_result_in_order(server: Running, echo: Echo) -> None:
    answer = await server.post({**CODE, "stdins": ["a", "", "ü\n"], "args": ["x"]})
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    plain = {
        "data": "",
        "error": None,
        "status": "ok",
        "stdout": "",
        "stderr": "",
        "exit_code": 0,
        "signal": None,
        "duration_s": 0.001,
        "cpu_s": 0.0005,
        "peak_memory_bytes": 9_000_000,
        "truncated": False,
    }
    assert answer.json == {
        "results": [{**plain, "data": text, "stdout": text} for text in ("a", "", "ü\n")],
        "passed": 3,
        "first_failure": None,
    }
    assert [one.args for one in echo.ran] == [["x"]] * 3
    assert echo.ran[0].stdins is None


async def test_runs_are_at_once_but_no_more_than_the_tenant_may_have(
    server: Running, echo: Echo
) -> None:
    server.service.most = 3
    await results(server, [str(number) for number in range(20)])
    assert echo.most_at_once == 3


@pytest.mark.parametrize(
    ("compare", "verdicts"),
    [("exact", [True, False, False, False]), ("ignore_trailing_space", [True, True, True, False])],
)
async def test_what_is_expected_is_compared(
    server: Running, echo: Echo, compare: str, verdicts: list[bool]
) -> None:
    stdins = ["a\nb", "a \t\nb\n\n", "a\r\nb", " a\nb"]
    answer = await server.post(
        {**CODE, "stdins": stdins, "expected": ["a\nb"] * 4, "compare": compare}
    )
    assert [one["matches"] for one in answer.json["results"]] == verdicts
    assert answer.json["passed"] == sum(verdicts)
    assert answer.json["first_failure"] == verdicts.index(False)


def test_only_white_space_at_the_end_of_lines_and_texts_is_no_difference() -> None:
    assert trimmed(b"a \t\r\n\n b\x0b\n\n \n") == b"a\n\n b"
    assert trimmed(b" \n") == trimmed(b"") == b""
    assert trimmed("a\u00a0".encode()) == "a\u00a0".encode()


async def test_long_outputs_are_compared_too(server: Running, echo: Echo) -> None:
    long = "ab \n" * 100_000
    items = await results(
        server, [long, long], expected=[long, long + "c"], compare="ignore_trailing_space"
    )
    assert [one["matches"] for one in items] == [True, False]


async def test_a_failure_does_not_stop_the_others_unless_that_was_asked(
    server: Running, echo: Echo
) -> None:
    server.service.most = 1
    items = await results(server, ["a", "bad", "b"])
    assert [one["status"] for one in items] == ["ok", "error", "ok"]
    items = await results(server, ["a", "bad", "b"], stop_on="first_failure")
    assert [one["status"] for one in items] == ["ok", "error", "stopped"]
    assert items[2] == {
        "data": None,
        "error": "this run did not begin, because the one of stdins[1] has failed",
        "code": "stopped",
        "status": "stopped",
        "http_status": 0,
    }
    assert [one.stdin for one in echo.ran] == ["a", "bad", "b", "a", "bad"]


async def test_an_output_that_differs_stops_it_too(server: Running, echo: Echo) -> None:
    server.service.most = 1
    items = await results(
        server, ["a", "b", "c"], expected=["a", "x", "c"], stop_on="first_failure"
    )
    assert [one["status"] for one in items] == ["ok", "ok", "stopped"]
    assert [one.get("matches") for one in items] == [True, False, None]


async def test_what_was_lost_or_refused_in_the_middle_is_said_and_nothing_else_is_lost(
    server: Running, echo: Echo
) -> None:
    server.service.most = 1
    items = await results(server, ["a", "lost", "b", "closed", "c"])
    assert [one["status"] for one in items] == ["ok", "lost", "ok", "refused", "refused"]
    assert {key: items[1][key] for key in ("data", "code", "http_status")} == {
        "data": None,
        "code": "container_lost",
        "http_status": 502,
    }
    for item in items[3:]:
        BatchRefusal.model_validate_json(json.dumps(item))
        assert (item["code"], item["http_status"], item["retry_after_s"]) == ("draining", 503, 1)


@pytest.mark.parametrize(("first", "status"), [("full", 503), ("busy", 429), ("closed", 503)])
@pytest.mark.parametrize("headers", [{}, sse.ASK])
async def test_if_nothing_ran_the_answer_is_that_of_a_single_run(
    server: Running, echo: Echo, first: str, status: int, headers: dict[str, str]
) -> None:
    many = await server.post({**CODE, "stdins": [first, "a"]}, **headers)
    one_alone = {**CODE, "stdin": first}
    server.service.script = None
    assert (many.status, many.headers["Retry-After"]) == (status, "1" if first == "closed" else "3")
    assert set(many.json) == {"data", "error", "code"}
    assert many.json == (await server.post(one_alone)).json
    assert not echo.ran


async def test_results_come_as_events_when_they_are_there(server: Running, echo: Echo) -> None:
    echo.gates["slow"] = asyncio.Event()
    echo.result = {"files": [OutputFile("f", 1, b"x")]}
    body = {**CODE, "stdins": ["slow", "a", "lost"], "collect": ["*"], "expected": ["slow", "", ""]}
    seen = []
    async with (
        asyncio.timeout(20),
        server.session.post(server.url + "/run", json=body, headers=sse.ASK) as response,
    ):
        async for name, data in sse.read(response.content):
            if not name:
                continue
            seen.append((name, data))
            if len(seen) == 2:
                echo.gates["slow"].set()
    assert [(name, data.get("index")) for name, data in seen] == [
        ("result", 1),
        ("result", 2),
        ("result", 0),
        ("end", None),
    ]
    assert seen[0][1]["files"] == [
        {"name": "f", "size_bytes": 1, "content": "x", "encoding": "utf8"}
    ]
    assert [data.get("matches") for _, data in seen] == [False, None, True, None]
    assert seen[3][1] == {"passed": 1, "first_failure": 1}
    BatchRunResult.model_validate_json(json.dumps(seen[0][1]))
    BatchRefusal.model_validate_json(json.dumps(seen[1][1]))
    BatchEnd.model_validate_json(json.dumps(seen[3][1]))


@pytest.mark.parametrize("accept", ["*/*", "text/event-stream"])
async def test_a_client_that_hangs_up_ends_all_runs(
    server: Running, echo: Echo, accept: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pgexec.request")
    stdins = ["first", "second", "third"]
    echo.gates = {name: asyncio.Event() for name in stdins}
    server.service.most = 2
    data = json.dumps({**CODE, "stdins": stdins}).encode()
    _, writer = await server.connect()
    writer.write(
        b"POST /run HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAccept: %b\r\n"
        b"Content-Length: %d\r\n\r\n" % (accept.encode(), len(data)) + data
    )
    async with asyncio.timeout(20):
        while len(echo.ran) < 2:
            await asyncio.sleep(0.001)
        writer.close()
        while len(echo.cancelled) < 2:
            await asyncio.sleep(0.001)
        while len(logged(caplog)) < 3:
            await asyncio.sleep(0.001)
    assert len(echo.ran) == 2
    assert {(name, one["status"], one["code"]) for name, one in logged(caplog)} == {
        ("run", 499, "client_gone"),
        ("request", 499, "client_gone"),
    }


def logged(caplog: pytest.LogCaptureFixture) -> list[tuple[str, Any]]:
    found = [one for one in caplog.records if one.name == "pgexec.request"]
    return [(one.getMessage(), vars(one)["fields"]) for one in found]


async def test_each_run_counts_in_metrics_log_and_page_as_any_other(
    server: Running, echo: Echo, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pgexec.request")
    answer = await server.post({**CODE, "stdins": ["a", "bad", "lost"]}, **{"X-Request-ID": "mine"})
    assert answer.headers["X-Request-ID"] == "mine"
    text = (await server.get("/metrics")).body.decode()
    assert 'pgexec_runs_total{profile="python",status="ok"} 1.0' in text
    assert 'pgexec_runs_total{profile="python",status="error"} 1.0' in text
    assert 'pgexec_requests_total{path="/run",status="200"} 1.0' in text
    lines = {one["request_id"]: (name, one) for name, one in logged(caplog)}
    assert {name: lines[name][0] for name in lines if name.startswith("mine")} == {
        "mine": "request",
        "mine.0": "run",
        "mine.1": "run",
        "mine.2": "run",
    }
    assert lines["mine.1"][1]["run_status"] == "error"
    assert (lines["mine.2"][1]["code"], lines["mine.2"][1]["status"]) == ("container_lost", 502)
    shown = (await server.get("/status")).json
    assert (shown["ran"], len(shown["recent"])) == (3, 3)


async def test_contents_of_files_have_one_limit_for_all_runs(serve: Serve) -> None:
    server = await serve(collect_limit="25k")
    echo = Echo(server)
    server.service.most = 1
    echo.result = {"files": [OutputFile("f", 10_240, b"x" * 10_240)]}
    items = await results(server, ["a", "b", "c"], collect=["*"])
    assert [len(one["files"][0].get("content", "")) for one in items] == [10_240, 10_240, 0]
    assert items[2]["files"][0]["omitted"] == (
        "over the limit of 25 KiB for all runs of the request together"
    )


async def test_an_answer_that_would_be_too_large_is_cut_at_an_input_and_says_so(
    server: Running, echo: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.service.most = 1
    monkeypatch.setattr(server.context.answers, "limit_bytes", 240_000)
    items = await results(server, ["x" * 60_000] * 4)
    assert [one["status"] for one in items] == ["ok", "ok", "refused", "refused"]
    assert items[3]["code"] == "too_many_bytes"
    assert server.context.answers.held_bytes == 0


WRONG = [
    ({"stdins": []}, "field 'stdins' must have 1 to 3 items, not 0"),
    ({"stdins": [""] * 4}, "field 'stdins' must have 1 to 3 items, not 4"),
    ({"stdins": "a"}, "field 'stdins' must be a list of strings, not a string"),
    ({"stdins": [1]}, "field 'stdins' must be a list of strings, not a list with a number in it"),
    (
        {"stdins": ["a"], "stdin": ""},
        "fields 'stdin' and 'stdins' cannot be in one request",
    ),
    (
        {"stdins": ["a"], "expected": []},
        "field 'expected' must have as many items as 'stdins', 1, not 0",
    ),
    (
        {"stdins": ["a"], "expected": [None]},
        "field 'expected' must be a list of strings, not a list with null in it",
    ),
    ({"expected": ["a"]}, "field 'expected' is for requests with the field 'stdins'"),
    ({"stop_on": "first_failure"}, "field 'stop_on' is for requests with the field 'stdins'"),
    (
        {"stdins": ["a"], "stop_on": "never"},
        "field 'stop_on' must be 'first_failure', not 'never'",
    ),
    (
        {"stdins": ["a"], "compare": "ignore_trailing_space"},
        "field 'compare' is for requests with the field 'expected'",
    ),
    (
        {"stdins": ["a"], "expected": ["a"], "compare": 1},
        "field 'compare' must be 'exact' or 'ignore_trailing_space', not a number",
    ),
]


@pytest.mark.parametrize(("fields", "sentence"), WRONG)
async def test_wrong_requests_are_refused_in_a_sentence(
    serve: Serve, fields: Any, sentence: str
) -> None:
    server = await serve(batch_max=3)
    answer = await server.post({**CODE, **fields})
    assert (answer.status, answer.json["error"]) == (400, sentence)
    assert not server.service.requests


async def test_each_input_has_the_limit_of_one(serve: Serve) -> None:
    server = await serve(stdin_limit="8")
    answer = await server.post({**CODE, "stdins": ["a", "ü" * 5]})
    assert (answer.status, answer.json) == (
        413,
        {
            "data": None,
            "error": "field 'stdins' has an item that is over the limit of 8 bytes",
            "code": "stdins_too_large",
        },
    )
