"""Figures as a plain table and as JSON, each with what was wanted of it."""

from __future__ import annotations

import json
import statistics
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Value = float | int | str | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """A figure and the bound that an issue puts on it."""

    what: str
    value: float
    bound: float
    at_least: bool

    @property
    def met(self) -> bool:
        """Whether the figure is on the right side of its bound."""
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    def __str__(self) -> str:
        relation = "at least" if self.at_least else "at most"
        verdict = "met" if self.met else "MISSED"
        return f"{self.what}: {self.value:.3g}, wanted {relation} {self.bound:g}: {verdict}"


@dataclass(slots=True)
class Section:
    """One table: rows of named columns, remarks, and the bounds that belong to it."""

    title: str
    rows: list[dict[str, Value]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    wanted: list[Wanted] = field(default_factory=list)

    def row(self, what: str, **columns: Value) -> None:
        """Add a row; a later row may have columns that an earlier one lacks."""
        self.rows.append({"what": what, **columns})

    def note(self, text: str) -> None:
        """Add a remark below the table."""
        self.notes.append(text)

    def want(self, what: str, value: float, *, at_least: float) -> None:
        """Hold a figure against a lower bound."""
        self.wanted.append(Wanted(what, value, at_least, at_least=True))

    def want_at_most(self, what: str, value: float, bound: float) -> None:
        """Hold a figure against an upper bound."""
        self.wanted.append(Wanted(what, value, bound, at_least=False))

    def show(self) -> None:
        """Print the table."""
        print(f"\n{self.title}\n{'-' * len(self.title)}")
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        lines = [["" if name == "what" else name.replace("_", " ") for name in names]]
        lines += [[_show(row.get(name)) for name in names] for row in self.rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        for first, *rest in lines:
            cells = (cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))
            print("  ".join((first.ljust(widths[0]), *cells)).rstrip())
        for text in (*self.notes, *map(str, self.wanted)):
            print(f"  {text}")
        sys.stdout.flush()


def write_json(path: Path, facts: dict[str, str], sections: Sequence[Section]) -> None:
    """Write everything that was measured to a file."""
    tables = [
        {
            "title": section.title,
            "rows": section.rows,
            "notes": section.notes,
            "wanted": [
                {"what": one.what, "value": one.value, "bound": one.bound, "met": one.met}
                for one in section.wanted
            ],
        }
        for section in sections
    ]
    document = json.dumps({"facts": facts, "sections": tables}, indent=2)
    path.write_text(document + "\n", encoding="utf-8")


def median(values: Sequence[float]) -> float:
    """Return the value in the middle."""
    return statistics.median(values)


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that so many percent of all do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100).__int__() - 1)]


def milliseconds(values_s: Sequence[float]) -> dict[str, Value]:
    """Return the usual columns of a list of durations in seconds."""
    return {
        "p50_ms": median(values_s) * 1000,
        "p99_ms": percentile(values_s, 99) * 1000,
        "n": len(values_s),
    }


def _show(value: Value) -> str:
    match value:
        case None:
            return ""
        case float():
            return f"{value:.2f}" if abs(value) < 100 else f"{value:.0f}"
        case _:
            return str(value)
