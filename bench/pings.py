"""Ask a server for `/ping` again and again, from a process of its own.

In the process of another client, that client's own work would count: `python -m bench.pings PORT`
prints the seconds of each answer, a line each, until its standard input ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import sys
import time
from typing import TYPE_CHECKING

from bench.client import get
from bench.server import ROOT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_POLL_S = 0.002


@contextlib.asynccontextmanager
async def pinging(port: int, times: list[float]) -> AsyncIterator[None]:
    """Add the seconds that each `/ping` takes, until the block ends."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.pings", str(port)),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        await process.stdout.readline()  # it has begun
        yield
    finally:
        process.stdin.close()
        times += map(float, (await process.stdout.read()).split())
        await process.wait()


def main(port: int) -> None:
    """Ping until standard input ends."""
    request, took = get("/ping"), list[float]()
    with socket.create_connection(("127.0.0.1", port)) as client:
        while not select.select([sys.stdin], [], [], _POLL_S)[0]:
            began = time.perf_counter()
            client.sendall(request)
            client.recv(4096)
            took.append(time.perf_counter() - began)
            if len(took) == 1:
                print("begun", flush=True)  # whoever waits for it
    print(*took, sep="\n")


if __name__ == "__main__":
    main(int(sys.argv[1]))
