"""The plots and tables of docs/tuning.md, made from the figures in docs/curves.json alone."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from bench.plot import Axis, Curve, bars, panel, panels

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Row = dict[str, Any]
    Document = Mapping[str, Any]

SNIPPETS = {
    "print": "print(1): all of it is processor time",
    "wait": "a wait of 20 ms, then print(1)",
}
_RATE = Axis("requests asked for per second", (25, 50, 100, 200, 400, 600))
_LATENCY = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
_USES = Axis("PGEXEC_MAX_USES", (1, 10, 100, 1000))
_PARTS = ("anonymous", "file", "kernel", "shim")
_TABLE = re.compile(r"(<!-- curves: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def plots(found: Document) -> dict[str, str]:
    """Return the SVG documents by file name."""
    return {
        "load.svg": _load(found["load"]),
        "memory.svg": bars(
            "Memory of one idle container, MiB (mean)",
            [(str(row["what"]), [row[name] for name in _PARTS]) for row in found["memory"]],
            legend=(
                "its cgroup: anonymous",
                "its cgroup: files",
                "its cgroup: kernel",
                "the engine's shim, outside it",
            ),
        ),
        "recycling.svg": _recycling(found["uses"]),
    }


def embed(page: str, found: Document) -> str:
    """Return a page with the tables between its marks made anew."""
    tables = {
        "facts": lambda: _facts(found),
        "load": lambda: _capacity(found["load"]),
        "memory": lambda: _memory(found["memory"]),
        "uses": lambda: _uses(found["uses"]),
        "variants": lambda: _variants(found["variants"]),
    }
    return _TABLE.sub(lambda mark: f"{mark[1]}{tables[mark[2]]()}\n{mark[3]}", page)


def _load(rows: Sequence[Row]) -> str:
    sizes = sorted({row["size"] for row in rows})
    drawn = []
    for name, title in SNIPPETS.items():
        for percent in ("p50", "p99"):
            curves = []
            for number, size in enumerate(sizes):
                of = [row for row in rows if (row["snippet"], row["size"]) == (name, size)]
                curves.append(
                    Curve(
                        f"{size} containers",
                        [(row["per_s"], row[f"{percent}_ms"]) for row in of],
                        frozenset(n for n, row in enumerate(of) if row["saturated"]),
                        colour=number,
                    )
                )
            axis = _axis(f"{percent}, ms", [y for one in curves for _, y in one.points])
            drawn.append(panel(f"{percent} of {title}", _RATE, axis, curves))
    legend = [f"{size} container{'s' * (size > 1)}" for size in sizes]
    return panels(drawn, across=2, legend=legend, note="hollow: saturated, the queue only grows")


def _recycling(rows: Sequence[Row]) -> str:
    rates = [(row["max_uses"], row["runs_per_s"]) for row in rows]
    calm = [
        Curve(name, [(row["max_uses"], row[column]) for row in rows], colour=number)
        for number, (name, column) in enumerate((("p50", "p50_ms"), ("highest", "highest_ms")))
    ]
    drawn = [
        panel(
            "As fast as they go: print(1) on 4 containers",
            _USES,
            _axis("runs per second", [rate for _, rate in rates]),
            [Curve("runs per second", rates)],
        ),
        panel(
            "Few at a time: latency",
            _USES,
            _axis("ms", [y for one in calm for _, y in one.points]),
            calm,
        ),
    ]
    return panels(drawn, across=2, legend=("runs; p50", "highest"), note="")


def _axis(label: str, values: Sequence[float]) -> Axis:
    """Return an axis whose ticks include all values."""
    low = max((tick for tick in _LATENCY if tick <= min(values)), default=_LATENCY[0])
    high = min((tick for tick in _LATENCY if tick >= max(values)), default=_LATENCY[-1])
    return Axis(label, tuple(tick for tick in _LATENCY if low <= tick <= high))


def _facts(found: Document) -> str:
    values = {row["fact"]: row["value"] for row in found["facts"]}
    engine, before = values["engine"].split(",")[0], values["load average"].split(";")[0]
    return (
        f"Measured {values['date']} on {values['machine']}; engine {engine}, {values['runtime']};"
        f" load average {before} before, {values['load average at the end']} at the end."
    )


def _capacity(rows: Sequence[Row]) -> str:
    lines = []
    for name, title in SNIPPETS.items():
        for size in sorted({row["size"] for row in rows}):
            of = [row for row in rows if (row["snippet"], row["size"]) == (name, size)]
            kept = [row for row in of if not row["saturated"]]
            most = kept[-1] if kept else None
            lines.append(
                (
                    title,
                    size,
                    f"{of[0]['p50_ms']:.1f} / {of[0]['p99_ms']:.1f} ms",
                    f"{most['per_s']}" if most else f"under {of[0]['per_s']}",
                    f"{most['p50_ms']:.1f} / {most['p99_ms']:.1f} ms" if most else "",
                )
            )
    first = rows[0]["per_s"]
    heads = (
        "snippet",
        "containers",
        f"p50 / p99 at {first}/s",
        "most per second",
        "p50 / p99 there",
    )
    return _table(heads, lines)


def _memory(rows: Sequence[Row]) -> str:
    heads = (
        *("containers", "anonymous", "files", "kernel", "charged in all", "shim"),
        *("RSS of its processes", "their PSS"),
    )
    return _table(
        heads,
        [
            (
                row["what"],
                *(f"{row[name]:.1f}" for name in ("anonymous", "file", "kernel")),
                f"{row['anonymous'] + row['file'] + row['kernel']:.1f}",
                *(f"{row[name]:.1f}" for name in ("shim", "resident", "proportional")),
            )
            for row in rows
        ],
    )


def _uses(rows: Sequence[Row]) -> str:
    heads = ("`PGEXEC_MAX_USES`", "runs per second", "p50, few at a time", "highest")
    return _table(
        heads,
        [
            (
                row["max_uses"],
                f"{row['runs_per_s']:.0f}",
                f"{row['p50_ms']:.1f} ms",
                f"{row['highest_ms']:.1f} ms",
            )
            for row in rows
        ],
    )


def _variants(rows: Sequence[Row]) -> str:
    heads = ("settings", "start", "anonymous memory, idle")
    return _table(
        heads,
        [(row["what"], f"{row['start_ms']:.0f} ms", f"{row['anonymous']:.1f} MiB") for row in rows],
    )


def _table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
