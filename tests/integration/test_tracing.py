"""Traces of a real server, as a receiver of OpenTelemetry's protocol gets them."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.conftest import LOCAL
from tests.integration.server import GATE, Server, until
from tests.otlp import Receiver, attributes, receiving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    Traced = Callable[..., contextlib.AbstractAsyncContextManager[Server]]

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SERVER_KIND, ERROR = 2, 2  # of the protocol


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as one:
        yield one


@pytest.fixture
def traced(tmp_path: Path, first_image: str) -> Traced:
    """Run a server for the time of a block, with variables of OpenTelemetry's."""

    @contextlib.asynccontextmanager
    async def run(**environment: str) -> AsyncIterator[Server]:
        pool = {"POOL_MIN_IDLE": "1", "POOL_MAX_CONTAINERS": "1", "POOL_MAX_WAITING": "1"}
        server = Server(
            tmp_path / "traced", {"IMAGE": first_image, **LOCAL, **pool}, environment=environment
        )
        server.start()
        try:
            await server.listening()
            await server.ready()
            yield server
        finally:
            await server.stop()

    return run


async def test_a_request_is_a_span_with_its_parts_within_the_caller_s_trace(
    traced: Traced, receiver: Receiver
) -> None:
    began = time.time_ns()
    async with traced(OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url) as server:
        answer = await server.request(
            "POST",
            "/run",
            json={"language": "python", "code": "import time; time.sleep(0.05)"},
            headers={"traceparent": f"00-{TRACE}-{PARENT}-01", "X-Request-ID": "mine"},
        )
        assert answer.status == 200
        container = (await server.logged("request", request_id="mine"))["container"]
    # Nothing was waited for: the end of the server sends what is left.
    (span,) = receiver.named("POST /run")
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
    assert span.kind == SERVER_KIND
    said = attributes(span.attributes)
    assert str(said.pop("container.id")).startswith(container)
    assert said == {
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "http.route": "/run",
        "url.path": "/run",
        "url.scheme": "http",
        "pgexec.request_id": "mine",
        "pgexec.run.status": "ok",
        "pgexec.lease.source": "idle",
    }
    ((name, run),) = receiver.children(span).items()
    assert (name, run.trace_id) == ("run", span.trace_id)
    assert run.end_time_unix_nano - run.start_time_unix_nano >= 50_000_000
    assert began <= span.start_time_unix_nano <= run.start_time_unix_nano
    assert run.end_time_unix_nano <= span.end_time_unix_nano <= time.time_ns()
    assert receiver.resources[0]["service.name"] == "pgexec"


async def test_waits_are_spans_and_what_the_server_refuses_is_an_error(
    traced: Traced, receiver: Receiver
) -> None:
    async with traced(
        OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url, OTEL_SERVICE_NAME="code runner"
    ) as server:
        first = asyncio.create_task(server.run(GATE))

        async def leased() -> bool:
            return (await server.by_state())["leased"] == 1

        await until(leased, "the first has its container")
        second = asyncio.create_task(server.run("pass"))
        await server.sees("pgexec_waiters", 1)
        refused = await server.run("pass")
        await server.open_gates()
        assert [(await one).status for one in (first, second)] == [200, 200]
        assert (await server.get("/no/such/page")).status == 404

    runs = receiver.named("POST /run")
    by_id = {attributes(span.attributes)["pgexec.request_id"]: span for span in runs}
    waited = by_id[(await second).request_id]
    parts = receiver.children(waited)
    assert set(parts) == {"queue", "run"}
    queue, run = parts["queue"], parts["run"]
    assert waited.start_time_unix_nano <= queue.start_time_unix_nano
    assert queue.end_time_unix_nano <= run.start_time_unix_nano
    assert not waited.parent_span_id
    assert len({span.trace_id for span in runs}) == len(runs) == 3
    failed = by_id[refused.request_id]
    assert (refused.status, failed.status.code) == (503, ERROR)
    assert attributes(failed.attributes)["error.type"] == refused.code
    assert receiver.children(failed) == {}
    (lost,) = receiver.named("GET")
    assert attributes(lost.attributes)["http.response.status_code"] == 404
    assert "http.route" not in attributes(lost.attributes)
    assert lost.status.code != ERROR
    assert receiver.resources[0]["service.name"] == "code runner"


async def test_a_receiver_that_is_not_there_costs_no_answer_and_little_of_the_end(
    traced: Traced,
) -> None:
    async with traced(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9") as server:
        await server.works()


@pytest.mark.parametrize(
    ("environment", "imported"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "true"}, False),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://x"}, True),
    ],
)
def test_what_is_not_asked_for_is_not_even_imported(environment: Any, imported: object) -> None:
    code = "import sys; from pgexec.app import _tracer; t = _tracer()\n"
    code += "print(t is not None, 'opentelemetry' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [str(imported)] * 2


def test_without_the_extra_a_warning_says_so() -> None:
    code = "import sys; sys.modules['opentelemetry'] = None; from pgexec.app import _tracer\n"
    code += "print(_tracer())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "None\n"
    assert "OTEL_EXPORTER_OTLP_ENDPOINT is set" in done.stderr
    assert "pgexec[otel]" in done.stderr
