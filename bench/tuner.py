"""The tuner against every fixed size, on the same traces with the same policy.

A fixed size is either a number of idle containers that is kept whatever happens (the server
with PGEXEC_POOL_AUTOSCALE=false, which still starts what those who wait need and lets go of it
after PGEXEC_IDLE_TIMEOUT_S), or a number of containers that never changes. What it costs is
container-seconds, what it gives is that fewer have to wait for a container.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bench.report import Section
from bench.tuner_chance import worth
from bench.tuner_plot import draw
from bench.tuner_points import Compared, Point
from bench.tuner_traces import BURSTY, SHAPES, trace
from pgexec.advise.replay import replay
from pgexec.advise.traces import TraceError, read_trace
from pool.config import PoolConfig

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pgexec.advise.replay import Replayed
    from pgexec.advise.traces import Request

PLOT = Path(__file__).resolve().parent.parent / "docs" / "tuner.svg"
MOST = 16
"""Containers at most, as by default."""
FLOORS = (0, 1, 2, 4, 6, 8)
"""PGEXEC_POOL_MIN_IDLE of the tuner; 4 is the default."""
DEFAULT = 4
SEEDS = 2
"""Traces of each shape, counted as one: what a single one has may be luck."""
EXPLAINED = ("bursty", "herd", "chance")
"""Traces that come in bursts apart from each other, of which it is told what knowing is worth."""


def compare(
    name: str,
    traces: Sequence[Sequence[Request]],
    *,
    floors: Iterable[int] = FLOORS,
    sizes: Iterable[int] = range(1, MOST + 1),
) -> Compared:
    """Replay traces, each by itself, against every fixed size and against the tuner."""

    def point(size: int, *, most: int = MOST, autoscale: bool = False) -> Point:
        config = PoolConfig(min_idle=size, max_containers=most, autoscale=autoscale)
        return _point(size, [replay(requests, config) for requests in traces])

    sizes = list(sizes)
    return Compared(
        name,
        idle=[point(size) for size in (0, *sizes)],
        fixed=[point(size, most=size) for size in sizes],
        tuner=[point(size, autoscale=True) for size in floors],
    )


def explain(name: str, traces: Sequence[Sequence[Request]]) -> Section:
    """Return what the tuner's choice of the moment is worth, and that chance leaves none."""
    section = Section(f"What stands ready as a burst of {name} begins, and who waits")
    found = worth(traces, PoolConfig(min_idle=DEFAULT, max_containers=MOST))
    section.row("as the tuner has it", waited_percent=100 * found.tuned)
    section.row("as many, at other times", waited_percent=100 * found.untimed)
    section.row("their mean, always", waited_percent=100 * found.constant)
    if name not in BURSTY:
        section.note(
            "Nothing foretells these bursts: knowing when is worth nothing, and by Jensen's"
        )
        section.note("inequality no rule waits less than a fixed size; see bench/tuner_chance.py.")
    return section


def table(compared: Compared) -> Section:
    """Return the figures of one trace, and what is wanted of them."""
    section = Section(f"The tuner on the trace {compared.name}")
    for one in compared.tuner:
        section.row(
            f"PGEXEC_POOL_MIN_IDLE={one.size}",
            containers=one.containers,
            waited_percent=100 * one.cold_ratio,
            fixed_waited_percent=100 * compared.against(one),
            mean_wait_ms=1000 * one.mean_wait_s,
        )
        if one.size == DEFAULT and compared.name in BURSTY:
            section.want_at_most(
                "waited, against fixed sizes of equal cost",
                one.cold_ratio / compared.against(one),
                1.0,
            )
    return section


def main(recorded: Path | None, seed: int) -> int:
    """Replay all shapes, or a recorded trace; print the figures and draw them."""
    try:
        traces = (
            {name: [trace(name, seed + number) for number in range(SEEDS)] for name in SHAPES}
            if recorded is None
            else {recorded.stem: [read_trace(recorded)]}
        )
    except TraceError as error:
        print(f"bench: {error}")
        return 1
    found = []
    for name, requests in traces.items():
        found.append(compare(name, requests))
        table(found[-1]).show()
        if name in EXPLAINED and recorded is None:
            explain(name, requests).show()
    plot = PLOT if recorded is None else Path(f"{recorded.stem}.svg")
    plot.write_text(draw(found), encoding="utf-8")
    print(f"\ndrawn in {plot.name}")
    return int(any(not one.met for each in found for one in table(each).wanted))


def _point(size: int, found: Sequence[Replayed]) -> Point:
    requests = sum(one.requests for one in found)
    served = requests - sum(one.refused for one in found)
    return Point(
        size,
        containers=sum(one.container_s for one in found) / sum(one.span_s for one in found),
        cold_ratio=sum(one.cold for one in found) / requests,
        mean_wait_s=sum(sum(one.waits_s) for one in found) / served if served else 0.0,
    )
