"""Decide if a container is used again after its lease, or destroyed for which reason. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pool.config import PoolConfig
    from pool.job import ResetReport


class Outcome(StrEnum):
    """How a lease ended. The first seven are the values of `job.Status`.

    A run that ended as `CANCELLED`, `PROTOCOL_ERROR` or `LOST` has no result. A lease without a
    run ends as `UNUSED`, one that was a session as `SESSION`.
    """

    OK = "ok"
    ERROR = "error"
    TIMEOUT = "timeout"
    MEMORY_LIMIT = "memory_limit"
    OUTPUT_LIMIT = "output_limit"
    CPU_TIME = "cpu_time"
    KILLED = "killed"
    CANCELLED = "cancelled"
    PROTOCOL_ERROR = "protocol_error"
    LOST = "lost"
    UNUSED = "unused"
    SESSION = "session"


class Reason(StrEnum):
    """The reason why the pool destroys a container."""

    TIMEOUT = "timeout"
    MEMORY_LIMIT = "memory_limit"
    OUTPUT_LIMIT = "output_limit"
    CPU_TIME = "cpu_time"
    KILLED = "killed"
    CANCELLED = "cancelled"
    PROTOCOL_ERROR = "protocol_error"
    LOST = "lost"
    FRESH = "fresh"
    MAX_USES = "max_uses"
    MAX_AGE = "max_age"
    DIRTY = "dirty"
    IDLE_TIMEOUT = "idle_timeout"
    EVICTED = "evicted"
    DRAINED = "drained"
    SESSION = "session"


@dataclass(slots=True, kw_only=True)
class Use:
    """The facts about one use of a container on which `verdict` depends.

    `uses` counts the runs of the container so far, with this one. `age_s` is its age in seconds.
    `fresh` is true if the lease asked for an unused container, `lost` if the stream to the
    container has ended.
    """

    outcome: Outcome
    uses: int
    age_s: float
    fresh: bool = False
    lost: bool = False


# Only if the snippet exited by itself is the container used again.
_OUTCOMES: dict[Outcome, Reason | None] = {
    Outcome.UNUSED: None,
    Outcome.OK: None,
    Outcome.ERROR: None,
    Outcome.TIMEOUT: Reason.TIMEOUT,
    Outcome.MEMORY_LIMIT: Reason.MEMORY_LIMIT,
    Outcome.OUTPUT_LIMIT: Reason.OUTPUT_LIMIT,
    Outcome.CPU_TIME: Reason.CPU_TIME,
    Outcome.KILLED: Reason.KILLED,
    Outcome.CANCELLED: Reason.CANCELLED,
    Outcome.PROTOCOL_ERROR: Reason.PROTOCOL_ERROR,
    Outcome.LOST: Reason.LOST,
    Outcome.SESSION: Reason.SESSION,
}


def verdict(use: Use, config: PoolConfig, report: ResetReport | None = None) -> Reason | None:
    """Return the reason to destroy the container, or `None` if it may be used again.

    The pool asks twice: at the end of the lease, without a `report`, and after the reset, with it.
    The first reason that applies counts. Example: a container that has had
    `max_uses` runs, and is lost, is destroyed for `MAX_USES`.
    """
    reason = _OUTCOMES[use.outcome]
    if reason is not None:
        return reason
    if use.fresh and use.outcome is not Outcome.UNUSED:
        reason = Reason.FRESH
    elif use.uses >= config.max_uses:
        reason = Reason.MAX_USES
    elif use.age_s >= config.max_age_s:
        reason = Reason.MAX_AGE
    elif use.lost:
        reason = Reason.LOST
    elif report is not None and not report.clean:
        reason = Reason.DIRTY
    return reason
