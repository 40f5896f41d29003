"""Whether a container is used again after its lease or destroyed, and for which reason. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pool.config import PoolConfig
    from pool.job import ResetReport


class Outcome(StrEnum):
    """How a lease ended; the first six are those of `job.Status`.

    `CANCELLED`, `PROTOCOL_ERROR` and `LOST` are runs that brought no result, `UNUSED` is a lease
    that ran nothing.
    """

    OK = "ok"
    ERROR = "error"
    TIMEOUT = "timeout"
    MEMORY_LIMIT = "memory_limit"
    OUTPUT_LIMIT = "output_limit"
    KILLED = "killed"
    CANCELLED = "cancelled"
    PROTOCOL_ERROR = "protocol_error"
    LOST = "lost"
    UNUSED = "unused"


class Reason(StrEnum):
    """Why a container is destroyed."""

    TIMEOUT = "timeout"
    MEMORY_LIMIT = "memory_limit"
    OUTPUT_LIMIT = "output_limit"
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """One use of a container, as `verdict` needs to know it.

    `uses` counts the runs of the container so far, this one included; `age_s` is the age of the
    container; `fresh` says that the lease asked for an unused container, `lost` that the stream
    to the container has ended.
    """

    outcome: Outcome
    uses: int
    age_s: float
    fresh: bool = False
    lost: bool = False


# The snippet must have exited by itself: after anything else the container is suspect.
_OUTCOMES: dict[Outcome, Reason | None] = {
    Outcome.UNUSED: None,
    Outcome.OK: None,
    Outcome.ERROR: None,
    Outcome.TIMEOUT: Reason.TIMEOUT,
    Outcome.MEMORY_LIMIT: Reason.MEMORY_LIMIT,
    Outcome.OUTPUT_LIMIT: Reason.OUTPUT_LIMIT,
    Outcome.KILLED: Reason.KILLED,
    Outcome.CANCELLED: Reason.CANCELLED,
    Outcome.PROTOCOL_ERROR: Reason.PROTOCOL_ERROR,
    Outcome.LOST: Reason.LOST,
}


def verdict(use: Use, config: PoolConfig, report: ResetReport | None = None) -> Reason | None:
    """Return why the container must be destroyed, or `None` if it may be used again.

    The pool asks twice: when the lease ends, without a `report`, and after the reset, with it.
    The rows are read from the top, and the first that applies is the reason. For example, a
    container with `max_uses` behind it that is lost as well is destroyed for `MAX_USES`.
    """
    reason = _OUTCOMES[use.outcome]
    if reason is not None:
        return reason
    used = use.outcome is not Outcome.UNUSED
    table = (
        (use.fresh and used, Reason.FRESH),
        (use.uses >= config.max_uses, Reason.MAX_USES),
        (use.age_s >= config.max_age_s, Reason.MAX_AGE),
        (use.lost, Reason.LOST),
        (report is not None and not report.clean, Reason.DIRTY),
    )
    return next((reason for applies, reason in table if applies), None)
