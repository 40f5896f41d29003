"""The curves and tables of docs/scaling.md, from the figures in docs/scaling.json alone."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from bench.plot import Axis, Curve, panel, panels
from bench.scaling import IDEAL, LOAD, LOADS, POLICIES, SEVERAL, SIZE, SIZES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Row = dict[str, Any]
    Document = Mapping[str, Any]

_WAIT = Axis("p99 of the wait, in the time of one run", (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 20))
_SERVERS = Axis("servers of 4 containers each", tuple(map(float, SIZES)))
_TABLE = re.compile(r"(<!-- scaling: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
_MISSING = "Not measured here yet: `make bench machines`."


def plot(found: Document) -> str:
    """Return the curves as an SVG document."""
    simulated = found["simulated"]
    drawn = [
        panel(
            f"The wait at {LOAD:.0%} load", _SERVERS, _WAIT, _curves(simulated["size"], "servers")
        ),
        panel(
            f"The wait with {SIZE} servers",
            Axis("load, of all that the containers can", LOADS, logarithmic=False),
            _WAIT,
            _curves(simulated["load"], "load"),
        ),
        panel(
            "What a fleet is worth: p99 of the wait at most one run",
            _SERVERS,
            Axis("in servers that never wait", (0.5, 1, 2, 4, 8, 16, 32, 64)),
            _curves(simulated["most"], "servers", "worth"),
        ),
        panel(
            f"A real Envoy before stubs at {LOAD:.0%} load (dots), and the simulation",
            _SERVERS,
            _WAIT,
            [
                *_curves(simulated["size"], "servers", dashed=True),
                *_curves(found.get("measured", ()), "servers"),
            ],
        ),
    ]
    return panels(drawn, across=2, legend=POLICIES, note="")


def _curves(
    rows: Sequence[Row], across: str, up: str = "p99", *, dashed: bool = False
) -> list[Curve]:
    return [
        Curve(name, points, colour=colour, dashed=dashed)
        for colour, name in enumerate(POLICIES)
        if (points := [(row[across], row[up]) for row in rows if row["policy"] == name])
    ]


def embed(page: str, found: Document) -> str:
    """Return a page with the tables between its marks made anew."""
    tables = {"waits": _waits, "worth": _worth, "machines": _machines, "overhead": _overhead}
    return _TABLE.sub(lambda mark: f"{mark[1]}{tables[mark[2]](found)}\n{mark[3]}", page)


def _waits(found: Document) -> str:
    rows = found["simulated"]["size"]
    lines = [
        [name, *(_wait(row) for row in rows if row["policy"] == name)]
        for name in (*POLICIES, SEVERAL)
    ]
    return table((f"p99 of the wait at {LOAD:.0%}", *(f"{size} servers" for size in SIZES)), lines)


def _wait(row: Row) -> str:
    refused = f", {row['refused']:.0%} refused" if row["refused"] else ""
    return f"{row['p99']:.2f}{refused}"


def _worth(found: Document) -> str:
    rows = found["simulated"]["most"]
    lines = [
        [name, *(f"{row['worth']:.1f}" for row in rows if row["policy"] == name)]
        for name in (*POLICIES, SEVERAL)
        if name != IDEAL
    ]
    return table(("worth of", *(f"{size} servers" for size in SIZES)), lines)


def _machines(found: Document) -> str:
    rows = found.get("machines")
    if not rows:
        return _MISSING
    names = list(dict.fromkeys(name for row in rows for name in row))
    heads = ["what befell them", *(name.replace("_", " ") for name in names[1:])]
    return table(heads, [[row.get(name, "") for name in names] for row in rows])


def _overhead(found: Document) -> str:
    one = found.get("overhead")
    if not one:
        return _MISSING
    return (
        f"p50 of `print(1)`, in turns: {one['direct_ms']:.2f} ms at the servers, "
        f"{one['proxy_ms']:.2f} ms through Envoy: {one['added_ms']:.2f} ms more, "
        f"{one['times']:.2f} times. Measured "
        f"{one['date']} on {one['machine']}; load average {one['load average']} before, "
        f"{one['load average at the end']} at the end. "
        "On a quiet machine `print(1)` takes 2 to 3 ms."
    )


def table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a table as Markdown has it."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
