"""The last runs and refusals of each tenant, for the page.

It keeps the time, the tenant, the end and the duration of a run, but never code or output.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgexec.http.record import Record

KEPT: Final = 256
"""The number of runs kept for each tenant; the API keys limit the number of tenants."""
SHOWN: Final = 50
WINDOW_S: Final = 300.0
"""Older runs do not count in the latencies."""
CONTAINER_CHARS: Final = 12


class FinishedRun(NamedTuple):
    """One run that got a container; `at` is its end, a time of `time.perf_counter`."""

    at: float
    request_id: str
    language: str
    status: str
    queue_s: float | None
    install_s: float | None
    run_s: float | None
    total_s: float
    container: str


@dataclass(slots=True)
class _Tenant:
    runs: deque[FinishedRun] = field(default_factory=lambda: deque(maxlen=KEPT))
    ran: int = 0
    refused: Counter[str] = field(default_factory=Counter)


class Recent:
    """The last runs by tenant. To keep a run is O(1); all work is done when somebody asks."""

    def __init__(self) -> None:
        self._tenants: dict[str, _Tenant] = {}

    def ended(self, record: Record, seconds: float) -> None:
        """Keep the end of a request, if it asked for a container."""
        timings = record.timings
        if timings is None or (record.result is None and record.code is None):
            return  # it has opened a session, at the most
        own = self._tenants.get(record.tenant)
        if own is None:
            own = self._tenants[record.tenant] = _Tenant()
        if timings.container_id is None:
            own.refused[record.code or "unknown"] += 1
            return
        own.ran += 1
        own.runs.append(
            FinishedRun(
                record.began + seconds,
                record.id,
                record.language,
                (record.code or "unknown") if record.result is None else record.result.status,
                timings.queue_s,
                timings.install_s,
                timings.run_s,
                seconds,
                timings.container_id,
            )
        )

    def document(self, tenant: str) -> dict[str, object]:
        """Return a tenant's own part of `/status`, the last run first; times are in seconds."""
        own = self._tenants.get(tenant, _NOBODY)
        now = time.perf_counter()
        epoch = time.time() - now
        lately = [run for run in own.runs if now - run.at <= WINDOW_S and run.run_s is not None]
        return {
            "ran": own.ran,
            "refused": dict(own.refused),
            "latency": {
                "window_s": WINDOW_S,
                "runs": len(lately),
                "queue": _percentiles([run.queue_s or 0.0 for run in lately]),
                "install": _percentiles(
                    [run.install_s for run in lately if run.install_s is not None]
                ),
                "run": _percentiles([run.run_s or 0.0 for run in lately]),
                "total": _percentiles([run.total_s for run in lately]),
            },
            "recent": [_entry(run, epoch) for run in list(own.runs)[: -SHOWN - 1 : -1]],
        }


_NOBODY = _Tenant()


def _entry(run: FinishedRun, epoch: float) -> dict[str, object]:
    entry = run._asdict()
    entry["time"] = epoch + entry.pop("at")
    entry["container"] = run.container[:CONTAINER_CHARS]
    return entry


def _percentiles(values: Sequence[float]) -> dict[str, float] | None:
    """Return the nearest-rank percentiles, or `None` if there are no values."""
    if not values:
        return None
    ordered = sorted(values)
    return {
        name: ordered[-(-percent * len(ordered) // 100) - 1]
        for name, percent in (("p50", 50), ("p99", 99))
    }
