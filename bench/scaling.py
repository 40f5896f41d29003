"""How long runs wait behind a balancer, by simulation: servers of a fixed rate, runs by chance.

A server is so many slots with a queue, and every run takes the same time, which is the unit of all
waits here. A balancer places each run when it comes, and never again; that is what it can lose to
the ideal, one queue for all slots. Nothing here measures this machine, so that the figures are the
same everywhere.
"""

from __future__ import annotations

import bisect
import heapq
import itertools
import random
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from bench.report import percentile

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Place = Callable[[Sequence[int], int, random.Random], int]
    """Given each server's outstanding runs, the key of the run, and chance, choose a server."""

SLOTS = 4
SIZES = (1, 2, 4, 16, 64)
LOADS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
LOAD, SIZE = 0.8, 16
"""Where one of the two is fixed."""
RUNS_PER_SERVER, LEAST_RUNS = 600, 10_000
KEYS_PER_SERVER = 20
LEASE_TIMEOUTS = 20.0
"""A run that would wait for longer is refused; in runs, as everything here."""
KEEPS_UP = 1.0
"""A fleet keeps up while p99 of the wait is at most the time of one run, and none is refused."""
PROXIES = 4
IDEAL, LEAST, TWO, HASH = "one queue", "least requests", "two choices", "hash by key"
POLICIES = (IDEAL, LEAST, TWO, HASH)
SEVERAL = f"least requests, {PROXIES} proxies"


@dataclass(frozen=True, slots=True)
class Waits:
    """What became of the runs; waits in the time of one run."""

    p50: float
    p99: float
    refused: float
    """The share of all."""
    throughput: float
    """Runs that were served, as a share of what all slots together can."""


def least(outstanding: Sequence[int], _key: int, chance: random.Random) -> int:
    """Take one of those with the fewest, by chance."""
    few = min(outstanding)
    return chance.choice([n for n, runs in enumerate(outstanding) if runs == few])


def two_choices(outstanding: Sequence[int], _key: int, chance: random.Random) -> int:
    """Take the better of two by chance, which may be the same one."""
    one, other = chance.randrange(len(outstanding)), chance.randrange(len(outstanding))
    return one if outstanding[one] <= outstanding[other] else other


def by_key(outstanding: Sequence[int], key: int, chance: random.Random) -> int:  # noqa: ARG001
    """Take the server of the key, however busy it is."""
    return _home(key, len(outstanding))


@cache
def _home(key: int, servers: int) -> int:
    return random.Random(key).randrange(servers)


_CHOICES = {LEAST: least, TWO: two_choices, HASH: by_key}


def arrivals(per_run: float, count: int, chance: random.Random) -> list[float]:
    """Return when runs come: a Poisson process, `per_run` of them in the time of one run."""
    return list(itertools.accumulate(chance.expovariate(per_run) for _ in range(count)))


def keys(number: int, count: int, chance: random.Random) -> list[int]:
    """Return whose each run is: of so many keys a few have most of the runs (Zipf)."""
    weights = list(itertools.accumulate(1 / rank for rank in range(1, number + 1)))
    return [bisect.bisect(weights, chance.random() * weights[-1]) for _ in range(count)]


@cache
def simulate(policy: str, servers: int, load: float, seed: int) -> Waits:
    """Send runs to servers and return what became of them; a load of 1 is all that they can."""
    chance = random.Random(f"{seed}/{servers}/{load}")
    count = max(LEAST_RUNS, RUNS_PER_SERVER * servers)
    due = arrivals(load * servers * SLOTS, count, chance)
    owners = keys(KEYS_PER_SERVER * servers, count, chance)
    if policy == IDEAL:
        return _point(_served(due, [0] * count, 1, servers * SLOTS), servers, due)
    proxies = PROXIES if policy == SEVERAL else 1
    choose = _CHOICES[LEAST if policy == SEVERAL else policy]
    placed = _placed(due, owners, servers, proxies, choose, chance)
    return _point(_served(due, placed, servers, SLOTS), servers, due)


def _placed(
    due: Sequence[float],
    owners: Sequence[int],
    servers: int,
    proxies: int,
    choose: Place,
    chance: random.Random,
) -> list[int]:
    """Return to which server each run goes; a proxy knows of those that it has placed only."""
    outstanding = [[0] * servers for _ in range(proxies)]
    free = [[0.0] * SLOTS for _ in range(servers)]
    ends: list[tuple[float, int, int]] = []
    placed = []
    for number, (now, owner) in enumerate(zip(due, owners, strict=True)):
        while ends and ends[0][0] <= now:
            _, proxy, server = heapq.heappop(ends)
            outstanding[proxy][server] -= 1
        proxy = number % proxies
        server = choose(outstanding[proxy], owner, chance)
        placed.append(server)
        began = max(now, free[server][0])
        if began - now <= LEASE_TIMEOUTS:
            heapq.heapreplace(free[server], began + 1.0)
            outstanding[proxy][server] += 1
            heapq.heappush(ends, (began + 1.0, proxy, server))
    return placed


def _served(
    due: Sequence[float], placed: Sequence[int], servers: int, slots: int
) -> list[float | None]:
    """Return how long each run waits at its server, or `None` where it is refused."""
    free = [[0.0] * slots for _ in range(servers)]
    waits: list[float | None] = []
    for now, server in zip(due, placed, strict=True):
        began = max(now, free[server][0])
        if began - now > LEASE_TIMEOUTS:
            waits.append(None)
            continue
        heapq.heapreplace(free[server], began + 1.0)
        waits.append(began - now)
    return waits


def _point(waits: Sequence[float | None], servers: int, due: Sequence[float]) -> Waits:
    kept = [wait for wait in waits if wait is not None]
    return Waits(
        percentile(kept, 50),
        percentile(kept, 99),
        1 - len(kept) / len(waits),
        len(kept) / (due[-1] * servers * SLOTS),
    )


def most(policy: str, servers: int, seed: int) -> float:
    """Return the highest load of `LOADS` at which a fleet keeps up, or 0."""
    found = 0.0
    for load in LOADS:
        point = simulate(policy, servers, load, seed)
        if point.p99 > KEEPS_UP or point.refused:
            break
        found = load
    return found


def figures(seed: int) -> dict[str, list[dict[str, float | str]]]:
    """Return all points that the curves and tables of docs/scaling.md are made of."""
    rows: dict[str, list[dict[str, float | str]]] = {"size": [], "load": [], "most": []}
    for policy in (*POLICIES, SEVERAL):
        for size in SIZES:
            point = simulate(policy, size, LOAD, seed)
            rows["size"].append(
                {"policy": policy, "servers": size, "p99": point.p99, "refused": point.refused}
            )
            kept = most(policy, size, seed) * size
            rows["most"].append({"policy": policy, "servers": size, "worth": kept})
        for load in LOADS:
            point = simulate(policy, SIZE, load, seed)
            rows["load"].append(
                {"policy": policy, "load": load, "p99": point.p99, "refused": point.refused}
            )
    return rows
