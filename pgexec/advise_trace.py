"""Recorded traces: who asked when, and how long each kept a container.

Two formats. A table (CSV) with a header: `at_s` and `held_s` in seconds and, where there are
such, `tenant`, `outcome` (a run's status, `ok` by default), `fresh` (1 or 0) and `peak_bytes`.
And pgexec's own log, whose request lines have all of these but the last two.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from pool.policy import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

COLUMNS = ("at_s", "held_s")


class TraceError(ValueError):
    """The file is no trace; the sentence says where."""


@dataclass(frozen=True, slots=True, order=True)
class Request:
    """One lease: when it was asked for, from the trace's begin, and how long it was held."""

    at_s: float
    held_s: float
    tenant: str = ""
    outcome: Outcome = Outcome.OK
    fresh: bool = False
    peak_bytes: int = 0


def read_trace(path: Path) -> list[Request]:
    """Read a file of either format, in the order of arrival. Raises `TraceError`."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TraceError(f"{path} cannot be read: {error}") from error
    parse = parse_log if lines and lines[0].startswith("{") else parse_table
    try:
        requests = sorted(parse(lines))
    except (KeyError, TypeError, ValueError) as error:
        raise TraceError(f"{path} is neither a trace nor a log of pgexec: {error!r}") from error
    if not requests:
        raise TraceError(f"{path} has no requests")
    first = requests[0].at_s
    return [_moved(request, -first) for request in requests]


def parse_table(lines: Iterable[str]) -> list[Request]:
    """Parse the lines of a CSV file with a header."""
    return [
        Request(
            at_s=float(row["at_s"]),
            held_s=float(row["held_s"]),
            tenant=row.get("tenant") or "",
            outcome=Outcome(row.get("outcome") or "ok"),
            fresh=(row.get("fresh") or "0") not in ("0", "false"),
            peak_bytes=int(row.get("peak_bytes") or 0),
        )
        for row in csv.DictReader(lines)
    ]


def parse_log(lines: Iterable[str]) -> list[Request]:
    """Parse pgexec's log: a JSON document a line; only answered runs are of interest."""
    requests = []
    for line in lines:
        entry = json.loads(line)
        if entry.get("event") != "request" or "run_status" not in entry:
            continue
        answered = datetime.fromisoformat(entry["time"]).timestamp()
        requests.append(
            Request(
                at_s=answered - entry["ms"] / 1000,
                held_s=entry["lease_ms"] / 1000,
                tenant=entry.get("tenant", ""),
                outcome=Outcome(entry["run_status"]),
            )
        )
    return requests


def write_table(requests: Sequence[Request]) -> str:
    """Return the CSV that `parse_table` reads."""
    rows = [f"{one.at_s:.6f},{one.held_s:.6f},{one.tenant},{one.outcome}" for one in requests]
    return "\n".join(("at_s,held_s,tenant,outcome", *rows, ""))


def _moved(request: Request, by_s: float) -> Request:
    return Request(
        request.at_s + by_s,
        request.held_s,
        request.tenant,
        request.outcome,
        request.fresh,
        request.peak_bytes,
    )
