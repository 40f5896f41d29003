"""What the handler of /run costs by itself, in nanoseconds: `python -m bench.handler`.

No socket, no pool: a request that is parsed already, and a service that has its result at
hand. So what is added to the hot path shows, however small.
"""

from __future__ import annotations

import asyncio
import gc
import json
import time
from typing import TYPE_CHECKING

from aiohttp import StreamReader, web
from aiohttp.test_utils import make_mocked_request

from pgexec.http.record import Record, Sender
from pgexec.http.routes import answer_errors, make_app, run
from pgexec.service import Timings
from pgexec.settings import Settings
from pgexec.telemetry.metrics import Metrics
from pool.job import Result, Status

if TYPE_CHECKING:
    from pgexec.contract import RunRequest
    from pool.observer import Snapshot

BODY = json.dumps({"language": "python", "code": "print(1)", "dependencies": []}).encode()
RESULT = Result(Status.OK, 0, None, b"1\n", b"1\n", b"", 0.001, 0.001, 9 << 20, truncated=False)
ROUNDS = 30
REQUESTS = 50


class AtOnce:
    """A service whose runs take no time."""

    async def run(
        self,
        request: RunRequest,  # noqa: ARG002
        timeout_s: float,  # noqa: ARG002
        tenant: str,  # noqa: ARG002
        timings: Timings,
        progress: object = None,  # noqa: ARG002
    ) -> Result:
        """Return the result."""
        timings.container_id, timings.source = "c0ffee" * 10, "idle"
        timings.queue_s, timings.lease_s, timings.run_s = 0.0, 0.0015, 0.001
        return RESULT

    def at_once(self, language: str, tenant: str) -> int:  # noqa: ARG002
        """Return how many containers there are."""
        return 4

    def unready(self, *, though_full: bool = False) -> None:
        """Return that it is ready."""

    def pools(self) -> dict[str, Snapshot]:
        """Return no pools: nobody looks at the page."""
        return {}


def make_request(app: web.Application, headers: dict[str, str]) -> web.Request:
    """Return a request whose body has come."""
    protocol = make_mocked_request("POST", "/").protocol
    payload = StreamReader(protocol, 1 << 16, loop=asyncio.get_running_loop())
    payload.feed_data(BODY)
    payload.feed_eof()
    headers = {"Content-Type": "application/json", "Content-Length": str(len(BODY)), **headers}
    return make_mocked_request("POST", "/run", headers=headers, payload=payload, app=app)


async def best_ns(app: web.Application, headers: dict[str, str]) -> float:
    """Return the time of a request in the best of the rounds: what others cost is not ours."""
    best = float("inf")
    for _ in range(ROUNDS):
        requests = [make_request(app, headers) for _ in range(REQUESTS)]
        gc.collect()
        gc.disable()
        began = time.perf_counter_ns()
        for request in requests:
            await answer_errors(request, run)
        best = min(best, (time.perf_counter_ns() - began) / REQUESTS)
        gc.enable()
    return best


def sign_ns() -> float:
    """Return what the request's id and Server-Timing cost."""
    timings = Timings("c0ffee" * 10, "idle", queue_s=0.0, lease_s=0.0015, run_s=0.001)
    record = Record("abc", timings=timings)
    response = web.Response(body=b"")
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.perf_counter_ns()
        for _ in range(REQUESTS):
            record.sign(response, Sender())
        best = min(best, (time.perf_counter_ns() - began) / REQUESTS)
    return best


async def main() -> None:
    """Measure and print."""
    app = make_app(Settings.of(), AtOnce(), Metrics())
    for name, headers in (
        ("Accept: */*", {"Accept": "*/*"}),
        ("no Accept", {}),
        ("with a request id", {"Accept": "*/*", "X-Request-ID": "abc"}),
    ):
        print(f"handler, {name:20} {await best_ns(app, headers):9.0f} ns")
    print(f"X-Request-ID and Server-Timing {sign_ns():6.0f} ns")


if __name__ == "__main__":
    asyncio.run(main())
