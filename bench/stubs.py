"""A real Envoy before servers that only wait: so many slots each, and every run takes as long.

Stubs and clients share one process and one loop, so that a run takes long enough for their own time
not to count. What is measured is the wait at the stubs, which is what the balance decides.
"""

from __future__ import annotations

import asyncio
import random
import re
import tempfile
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, cast

from bench.client import ClientConnection
from bench.report import percentile
from bench.scaling import HASH, LEAST, LOAD, SIZES, SLOTS, TWO, arrivals, keys
from tests.deploy import proxies

if TYPE_CHECKING:
    from collections.abc import Sequence

RUN_S = 0.4
RUNS_PER_SERVER, LEAST_RUNS = 40, 160
KEYS_PER_SERVER = 20
POLICIES = (LEAST, TWO, HASH)
_READY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
_SCAN = "selection_method: FULL_SCAN"
_POLICY = re.compile(
    r"(- name: pgexec\n.*?)( +load_balancing_policy:.*?)( +common_lb_config:)", re.DOTALL
)
_RING = """      load_balancing_policy:
        policies:
          - typed_extension_config:
              name: envoy.load_balancing_policies.ring_hash
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.load_balancing_policies.ring_hash.v3.RingHash
"""  # noqa: E501 - a name of Envoy's
_ROUTE = "                            cluster: runs\n"
_BY_KEY = _ROUTE + "                            hash_policy: [{header: {header_name: x-key}}]\n"


class Stub:
    """One server."""

    def __init__(self, waits: list[float]) -> None:
        self.waits = waits
        self._free = SLOTS
        self._queue: deque[tuple[float, asyncio.Transport]] = deque()

    def run(self, transport: asyncio.Transport) -> None:
        """Take a run, to be answered when a slot has had it for as long as a run takes."""
        now = time.perf_counter()
        if self._free:
            self._free -= 1
            self._begin(now, transport)
        else:
            self._queue.append((now, transport))

    def _begin(self, came: float, transport: asyncio.Transport) -> None:
        self.waits.append(time.perf_counter() - came)
        asyncio.get_running_loop().call_later(RUN_S, self._end, transport)

    def _end(self, transport: asyncio.Transport) -> None:
        transport.write(_READY)
        if self._queue:
            self._begin(*self._queue.popleft())
        else:
            self._free += 1


class _Line(asyncio.Protocol):
    """A connection to a stub; requests have no body and come whole."""

    def __init__(self, stub: Stub) -> None:
        self._stub = stub

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"GET /readyz"):
            self._transport.write(_READY)
        else:
            self._stub.run(self._transport)


async def measure(seed: int, sizes: Sequence[int] = SIZES[1:]) -> list[dict[str, float | str]]:
    """Return p99 of the wait, in the time of one run, by policy and number of servers.

    With one there is nothing to choose.
    """
    rows: list[dict[str, float | str]] = []
    for size in sizes:
        for policy in POLICIES:
            p99 = await _point(policy, size, seed) / RUN_S
            rows.append({"policy": policy, "servers": size, "p99": p99})
            print(
                f"  {policy}, {size} stubs behind Envoy: p99 of the wait {p99:.2f} runs", flush=True
            )
    return rows


async def _point(policy: str, size: int, seed: int) -> float:
    loop = asyncio.get_running_loop()
    waits: list[float] = []
    stubs = [Stub(waits) for _ in range(size)]
    servers = [
        await loop.create_server(lambda stub=stub: _Line(stub), "127.0.0.1", 0)  # type: ignore[misc]
        for stub in stubs
    ]
    ports = [server.sockets[0].getsockname()[1] for server in servers]
    with tempfile.TemporaryDirectory(prefix="pgexec-bench-") as directory:
        async with proxies.proxying(
            "envoy", Path(directory) / "envoy", ports, change=lambda text: _with(policy, text)
        ) as proxy:
            await _load(proxy.port, size, seed)
    for server in servers:
        server.close()
    return percentile(waits, 99)


def _with(policy: str, text: str) -> str:
    """Return Envoy's configuration as it is shipped, but for how it chooses a server."""
    assert _SCAN in text
    assert _ROUTE in text
    if policy == TWO:
        return text.replace(_SCAN, "choice_count: 2")
    if policy == HASH:
        return _POLICY.sub(lambda found: found[1] + _RING + found[3], text.replace(_ROUTE, _BY_KEY))
    return text


async def _load(port: int, size: int, seed: int) -> None:
    """Send runs at random times, each on a connection that nobody else uses."""
    chance = random.Random(f"{seed}/{size}")
    count = max(LEAST_RUNS, RUNS_PER_SERVER * size)
    due = arrivals(LOAD * size * SLOTS / RUN_S, count, chance)
    owners = keys(KEYS_PER_SERVER * size, count, chance)
    free: list[ClientConnection] = []
    began = time.perf_counter()

    async def one(at: float, owner: int) -> None:
        await asyncio.sleep(at - (time.perf_counter() - began))
        connection = free.pop() if free else await ClientConnection.open(port)
        request = f"GET /run HTTP/1.1\r\nHost: x\r\nX-Key: {owner}\r\n\r\n"
        await connection.ask(request.encode())
        free.append(connection)

    async with asyncio.TaskGroup() as group:
        for at, owner in zip(due, owners, strict=True):
            group.create_task(one(at, owner))
    for connection in free:
        connection.close()
