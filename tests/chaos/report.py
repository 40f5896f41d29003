"""The table of what was done to pgexec and what it did about it."""

from __future__ import annotations

from dataclasses import dataclass, field

COLUMNS = (
    ("times", "injected"),
    ("in", "flight"),
    ("answered", "once"),
    ("of these", "refused"),
    ("cut with", "the server"),
    ("answered", "twice"),
    ("", "lost"),
    ("leaked", "containers"),
    ("s to full", "capacity"),
)


@dataclass(slots=True)
class Row:
    """One fault. `once` counts complete answers and clean errors, `refused` the latter.

    `cut` are connections that broke because their server was killed. `capacity_s` is the
    longest time from the fault's end to full capacity.
    """

    fault: str
    times: int = 0
    in_flight: int = 0
    once: int = 0
    refused: int = 0
    cut: int = 0
    twice: int = 0
    lost: int = 0
    leaked: int = 0
    capacity_s: float = 0.0

    def cells(self) -> list[str]:
        numbers = (self.times, self.in_flight, self.once, self.refused, self.cut, self.twice)
        return [*map(str, (*numbers, self.lost, self.leaked)), f"{self.capacity_s:.1f}"]


@dataclass
class Report:
    """The rows so far, and notes to go below them."""

    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def row(self, fault: str) -> Row:
        """Return the row of a fault, a new one at first."""
        for row in self.rows:
            if row.fault == fault:
                return row
        self.rows.append(Row(fault))
        return self.rows[-1]

    def lines(self) -> list[str]:
        """Return the table as lines of text."""
        if not self.rows:
            return self.notes
        body = [row.cells() for row in self.rows]
        head = [[pair[line] for pair in COLUMNS] for line in (0, 1)]
        widths = [max(map(len, column)) for column in zip(*head, *body, strict=True)]
        first = max(len(row.fault) for row in self.rows)
        names = ["", "fault", *(row.fault for row in self.rows)]
        return [
            "  ".join(
                [name.ljust(first), *(c.rjust(w) for c, w in zip(cells, widths, strict=True))]
            )
            for name, cells in zip(names, [*head, *body], strict=True)
        ] + self.notes
