"""The processor time that a run takes of the server and of its container, beside a `/ping`.

One request at a time, in turns: what is counted is work, and not how well it shares a machine.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from bench.client import ClientConnection, get, post_run
from bench.cpu import spent
from bench.errors import AnswerError
from bench.report import Section, median
from bench.server import serving

if TYPE_CHECKING:
    from bench.bed import Bed

CONTAINERS = 4
ROUNDS = 12
REQUESTS = {"print(1)": (post_run("print(1)"), 200), "/ping": (get("/ping"), 1000)}
WANTED_TIMES = 5


async def measure(bed: Bed) -> Section:
    """Measure both requests on one connection."""
    section = Section("Processor time of a request, in ms")
    pool = {"pool_min_idle": CONTAINERS, "pool_max_containers": CONTAINERS}
    used: dict[tuple[str, str], list[float]] = defaultdict(list)
    async with serving(**pool) as server:
        await server.settled()
        containers = await bed.owned_by(server.pid)
        connection = await ClientConnection.open(server.port)
        try:
            for _ in range(ROUNDS):
                for name, (request, count) in REQUESTS.items():
                    before = spent(containers, server.pid)
                    for _ in range(count):
                        status, body = await connection.ask(request)
                        if status != 200:
                            raise AnswerError(f"HTTP {status}: {body[:300]!r}")
                    after = spent(containers, server.pid)
                    for party in ("server", "engine", "containers"):
                        spent_s = getattr(after, f"{party}_s") - getattr(before, f"{party}_s")
                        used[name, party].append(spent_s / count * 1000)
        finally:
            connection.close()
    for name in REQUESTS:
        parties = ("server", "engine", "containers") if name != "/ping" else ("server",)
        section.row(name, **{f"{party}_ms": median(used[name, party]) for party in parties})
    times = median(used["print(1)", "server"]) / median(used["/ping", "server"])
    section.want_at_most("the server's time of a run / of a /ping", times, WANTED_TIMES)
    return section
