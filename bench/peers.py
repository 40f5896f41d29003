"""What a user would take instead, beside pgexec, in turns: other sandboxes, and a bare kernel.

All run here, at once: docker exec and docker run of the same image, llm-sandbox's pool of
containers, bubblewrap around this machine's Python, and a local Jupyter kernel, which isolates
nothing and keeps its state. What this machine lacks is left out, and named.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from bench import memory
from bench.client import ClientConnection, post_run
from bench.driver import driving
from bench.errors import AnswerError, FlowError
from bench.load import rate
from bench.report import Section, median
from bench.server import serving
from bench.sessions import KERNEL, LLM_SANDBOX

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from bench.bed import Bed

ROUNDS = 5
WORKERS = 4
SLICE_S = 3.0
CASES = {
    "print(1)": "print(1)",
    "an exception": "1 / 0",
    "100,000 prints": "for i in range(100_000): print(i)",
    "import asyncio": "import asyncio",
    "1 MB in one write": "import sys; sys.stdout.write('x' * 1_000_000)",
}
FAILING = "1 / 0"
WANTED_OF_KERNEL = 1.5
BWRAP = (
    *("bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp"),
    *("--unshare-all", "--die-with-parent", "--new-session", "python3", "-I", "-c"),
)


@dataclass(slots=True)
class _Peer:
    """One way to run a snippet."""

    name: str
    run: Callable[[str], Awaitable[float]]
    """Runs code, and returns the seconds that it took."""
    times: int
    """Runs of a case in each round: fewer of what takes long."""
    rate: Callable[[], Awaitable[float]]
    idle_mib: float | None = None
    """What a worker that does nothing takes (PSS), where there is one."""
    isolates: bool = True
    took: dict[str, list[float]] = field(default_factory=dict)
    rates: list[float] = field(default_factory=list)


async def measure(bed: Bed) -> Section:
    """Measure each case with each peer, in turns."""
    section = Section(f"Beside peers: p50 in ms; runs per second of {WORKERS} clients; idle MiB")
    async with contextlib.AsyncExitStack() as stack:
        peers = [
            await stack.enter_async_context(peer)
            for peer in (_pgexec(bed), _exec(bed), _llm_sandbox(bed), _kernel())
        ]
        peers += [_spawned("bubblewrap", *BWRAP)] if shutil.which("bwrap") else []
        if bed.flows.cli:
            options = ("run", "--rm", "--network", "none", "--label", "pgexec.bench", bed.stock)
            peers.append(_spawned("docker run", bed.flows.cli, *options, "python3", "-c"))
        for peer in peers:
            await peer.run("print(1)")
        for _ in range(ROUNDS):
            for case, code in CASES.items():
                for peer in peers:
                    times = [await peer.run(code) for _ in range(peer.times)]
                    peer.took.setdefault(case, []).extend(times)
            for peer in peers:
                peer.rates.append(await peer.rate())
    _tell(section, peers)
    return section


def _tell(section: Section, peers: list[_Peer]) -> None:
    for case in CASES:
        section.row(case, **{peer.name: median(peer.took[case]) * 1000 for peer in peers})
    section.row("runs per second", **{peer.name: median(peer.rates) for peer in peers})
    section.row("memory of an idle worker", **{peer.name: peer.idle_mib for peer in peers})
    ours, *others = peers
    for case in CASES:
        p50 = {peer.name: median(peer.took[case]) for peer in others if peer.isolates}
        best = min(p50, key=lambda name: p50[name])
        section.want_at_most(f"{case}: pgexec / {best}", median(ours.took[case]) / p50[best], 1)
        (kernel,) = (peer for peer in others if not peer.isolates)
        section.want_at_most(
            f"{case}: pgexec / the kernel, which has its state already",
            median(ours.took[case]) / median(kernel.took[case]),
            WANTED_OF_KERNEL,
        )
    best_rate = max(median(peer.rates) for peer in others if peer.isolates)
    section.want("runs per second / the best peer's", median(ours.rates) / best_rate, at_least=1)
    section.note("the kernel isolates nothing; its four clients have one kernel each")
    missing = {"bubblewrap", "docker run"} - {peer.name for peer in peers}
    if missing:
        section.note(f"not on this machine: {', '.join(sorted(missing))}")


@contextlib.asynccontextmanager
async def _pgexec(bed: Bed) -> AsyncIterator[_Peer]:
    async with serving(
        pool_min_idle=WORKERS, pool_max_containers=WORKERS, keepalive_timeout_s=600
    ) as server:
        connections = [await ClientConnection.open(server.port) for _ in range(WORKERS)]

        async def run(connection: ClientConnection, code: str) -> float:
            began = time.perf_counter()
            status, body = await connection.ask(post_run(code))
            took = time.perf_counter() - began
            exit_code = json.loads(body).get("exit_code")
            if status != 200 or (exit_code != 0) is not (code == FAILING):
                raise AnswerError(f"HTTP {status}: {body[:300]!r}")
            return took

        async def alone(code: str) -> float:
            await server.settled()
            return await run(connections[0], code)

        for connection in connections:  # one without a request is closed before a kept-alive one
            await run(connection, "print(1)")
        await server.settled()
        work = [partial(run, one, "print(1)") for one in connections]
        idle = [memory.of_container(one).proportional for one in await bed.pooled_by(server.pid)]
        yield _Peer("pgexec", alone, 10, partial(rate, work, SLICE_S), median(idle))
        for connection in connections:
            connection.close()


@contextlib.asynccontextmanager
async def _exec(bed: Bed) -> AsyncIterator[_Peer]:
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        containers = [await enter(bed.flows.warm(bed.prepared)) for _ in range(WORKERS)]

        async def run(number: int, code: str) -> float:
            began = time.perf_counter()
            command = ("python3", "-c", code)
            await bed.flows.execute(containers[number], *command, fails=code == FAILING)
            return time.perf_counter() - began

        work = [partial(run, number, "print(1)") for number in range(WORKERS)]
        idle = memory.of_container(containers[0].id).proportional
        yield _Peer("docker exec", partial(run, 0), 4, partial(rate, work, SLICE_S), idle)


@contextlib.asynccontextmanager
async def _llm_sandbox(bed: Bed) -> AsyncIterator[_Peer]:
    async with driving("llm_sandbox", LLM_SANDBOX, arguments=(bed.stock,)) as driver:

        async def run(code: str) -> float:
            command = "raise" if code == FAILING else "run"
            return await driver(f"{command} {json.dumps(code)}")

        await run("print(1)")
        found = await bed.engine.docker.containers.list(
            filters={"ancestor": ["pgexec-bench-llm-sandbox"]}
        )
        idle = median([memory.of_container(one.id).proportional for one in found])
        work = partial(driver, f"rate {SLICE_S} {WORKERS}")
        yield _Peer("llm-sandbox", run, 2, work, idle)


@contextlib.asynccontextmanager
async def _kernel() -> AsyncIterator[_Peer]:
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        kernels = [await enter(driving("kernel", *KERNEL)) for _ in range(WORKERS)]
        for kernel in kernels:
            await kernel("start")

        async def run(number: int, code: str) -> float:
            command = "raise" if code == FAILING else "run"
            return await kernels[number](f"{command} {json.dumps(code)}")

        work = [partial(run, number, "print(1)") for number in range(WORKERS)]
        idle = memory.of_process(int(await kernels[0]("pid")))
        rated = partial(rate, work, SLICE_S)
        yield _Peer("a kernel", partial(run, 0), 10, rated, idle, isolates=False)
        for kernel in kernels:
            await kernel("stop")


def _spawned(name: str, *command: str) -> _Peer:
    """Return a peer that is a program to start for each run, with the code as its last argument."""

    async def run(code: str) -> float:
        began = time.perf_counter()
        process = await asyncio.create_subprocess_exec(
            *command,
            code,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        _, errors = await process.communicate()
        took = time.perf_counter() - began
        if (process.returncode != 0) is not (code == FAILING):
            raise FlowError(f"{name}: {errors.decode(errors='replace')[-300:]}")
        return took

    work = [partial(run, "print(1)") for _ in range(WORKERS)]
    return _Peer(name, run, 3, partial(rate, work, SLICE_S))
