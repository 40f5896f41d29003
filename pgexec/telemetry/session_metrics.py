"""The series of sessions: how many there are, why they end, how many cells they run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge, Histogram

from pool.errors import SessionEnd

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from prometheus_client import CollectorRegistry

CELLS = (0, 1, 2, 5, 10, 25, 50, 100, 250, 1000)
STATES = ("idle", "busy")


class SessionMetrics:
    """Counts what happens to sessions, and shows how many there are at each scrape."""

    def __init__(self, registry: CollectorRegistry, profiles: Sequence[str]) -> None:
        def counters(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, ["profile", *labels], registry=registry)

        gauge = Gauge(
            "pgexec_sessions", "Sessions by state", ["profile", "state"], registry=registry
        )
        self._living = {
            (profile, state): gauge.labels(profile, state)
            for profile in profiles
            for state in STATES
        }
        opened = counters("pgexec_sessions_opened_total", "Sessions that were opened")
        self._opened = {profile: opened.labels(profile) for profile in profiles}
        ended = counters("pgexec_sessions_ended_total", "Sessions that have ended", "reason")
        self._ended = {
            (profile, reason): ended.labels(profile, reason.value)
            for profile in profiles
            for reason in SessionEnd
        }
        restarts = counters(
            "pgexec_session_restarts_total",
            "Cells that ran in a new interpreter, because the last one had ended",
        )
        self._restarts = {profile: restarts.labels(profile) for profile in profiles}
        self._cells = Histogram(
            "pgexec_session_cells",
            "Cells that a session had run when it ended",
            buckets=CELLS,
            registry=registry,
        )
        self._read: Callable[[], Mapping[str, Mapping[str, int]]] | None = None

    def watch(self, counts: Callable[[], Mapping[str, Mapping[str, int]]]) -> None:
        """Read the sessions by profile and state at each scrape."""
        self._read = counts

    def refresh(self) -> None:
        """Bring the gauges up to date."""
        if self._read is None:
            return
        for profile, states in self._read().items():
            for state in STATES:
                self._living[profile, state].set(states[state])

    def opened(self, language: str) -> None:
        """Count a session that is open."""
        self._opened[language].inc()

    def ended(self, language: str, reason: SessionEnd, runs: int) -> None:
        """Count a session that has ended after `runs` cells."""
        self._ended[language, reason].inc()
        self._cells.observe(runs)

    def restarted(self, language: str) -> None:
        """Count a cell that ran in a new interpreter."""
        self._restarts[language].inc()
