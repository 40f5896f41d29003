"""Read recorded traces: the time of each request, and how long it kept a container.

There are two formats. One is a table (CSV) with a header: `at_s` and `held_s` in seconds; the
columns `tenant`, `outcome` (a run's status, `ok` by default), `fresh` (1 or 0) and `peak_bytes`
may be missing. The other is pgexec's own log: its request lines have all of these but the last
two.
"""

from __future__ import annotations

import csv
import json
import math
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from pool.sizing.recycling import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

COLUMNS = ("at_s", "held_s")
MOST_S = 366 * 86_400
"""The longest trace, in seconds."""


class TraceError(ValueError):
    """The file is no trace; the text names the line."""


@dataclass(frozen=True, slots=True, order=True)
class Request:
    """One lease: its arrival since the start of the trace, and how long it was held."""

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
    except UnicodeDecodeError as error:
        raise TraceError(f"{path} cannot be read: it is no text") from error
    except OSError as error:
        raise TraceError(f"{path} cannot be read: {error.strerror}") from error
    is_table = bool(lines) and set(COLUMNS) <= {name.strip() for name in lines[0].split(",")}
    try:
        requests = sorted(parse_table(lines) if is_table else parse_log(lines))
    except TraceError as error:
        raise TraceError(f"{path}, {error}") from error
    if not requests:
        columns = " and ".join(COLUMNS)
        raise TraceError(
            f"{path} has no requests: it is to be a table with the columns {columns}, or a log of "
            "pgexec with runs in it"
        )
    first = requests[0].at_s
    span_s = max(one.at_s + one.held_s for one in requests) - first
    if span_s > MOST_S:
        # Time passes at once in a replay, but not for nothing: a year takes minutes.
        raise TraceError(
            f"{path} lasts {span_s:g} s, more than a year: at_s and held_s must be in seconds"
        )
    return [replace(request, at_s=request.at_s - first) for request in requests]


def parse_table(lines: Iterable[str]) -> list[Request]:
    """Parse the lines of a CSV file with a header. Raises `TraceError`."""
    rows = csv.DictReader(lines, skipinitialspace=True)
    return [_parse_row(row, rows.line_num) for row in rows]


def parse_log(lines: Iterable[str]) -> list[Request]:
    """Parse pgexec's log, with one JSON document in each line. Only answered runs count.

    Other lines are skipped: a log may begin or break off anywhere, and share its file.
    """
    return [request for line in lines if (request := _parse_entry(line)) is not None]


def _parse_row(row: Mapping[str, str | None], number: int) -> Request:
    def seconds(name: str, least: float) -> float:
        try:
            value = float(row[name] or "")
        except ValueError:
            value = math.nan
        if not least <= value < math.inf:
            raise TraceError(f"line {number}: {name} is {row[name]!r}, which is no time in seconds")
        return value

    try:
        outcome, peak_bytes = Outcome(row.get("outcome") or "ok"), int(row.get("peak_bytes") or 0)
    except ValueError as error:
        raise TraceError(f"line {number}: {error}") from error
    return Request(
        at_s=seconds("at_s", -math.inf),
        held_s=seconds("held_s", 0.0),
        tenant=row.get("tenant") or "",
        outcome=outcome,
        fresh=(row.get("fresh") or "0") not in ("0", "false"),
        peak_bytes=peak_bytes,
    )


def _parse_entry(line: str) -> Request | None:
    try:
        entry = json.loads(line)
        if entry["event"] not in ("request", "run"):
            return None
        answered = datetime.fromisoformat(entry["time"]).timestamp()
        return Request(
            at_s=answered - entry["ms"] / 1000,
            held_s=entry["lease_ms"] / 1000,
            tenant=entry.get("tenant", ""),
            outcome=Outcome(entry["run_status"]),
        )
    except (KeyError, TypeError, ValueError):
        return None
