"""What becomes of a container after its lease."""

from __future__ import annotations

from typing import Any

import pytest

from pool.config import PoolConfig
from pool.job import ResetReport, Status
from pool.sizing.recycling import Outcome, Reason, Use, verdict

CONFIG = PoolConfig(max_uses=10, max_age_s=100)
CLEAN = ResetReport(clean=True, detail="{}")
DIRTY = ResetReport(clean=False, detail="a process is left")


def used(**how: Any) -> Use:
    settings: dict[str, Any] = {"outcome": Outcome.OK, "uses": 1, "age_s": 1.0}
    return Use(**(settings | how))


def test_every_status_of_a_run_is_an_outcome() -> None:
    assert {status.value for status in Status} <= {outcome.value for outcome in Outcome}


@pytest.mark.parametrize("outcome", Outcome)
def test_only_a_snippet_that_exited_by_itself_is_followed_by_another(outcome: Outcome) -> None:
    reason = verdict(used(outcome=outcome), CONFIG)
    assert (reason is None) == (outcome in {Outcome.OK, Outcome.ERROR, Outcome.UNUSED})
    if reason is not None:
        assert reason == outcome.value


@pytest.mark.parametrize(
    ("use", "reason"),
    [
        (used(), None),
        (used(uses=9), None),
        (used(uses=10), Reason.MAX_USES),
        (used(age_s=100.0), Reason.MAX_AGE),
        (used(fresh=True), Reason.FRESH),
        (used(lost=True), Reason.LOST),
        (used(outcome=Outcome.UNUSED, uses=0, fresh=True), None),
        (used(outcome=Outcome.UNUSED, uses=0, lost=True), Reason.LOST),
        (used(outcome=Outcome.TIMEOUT, uses=10, fresh=True, lost=True), Reason.TIMEOUT),
        (used(uses=10, lost=True), Reason.MAX_USES),
    ],
)
def test_the_verdict_names_the_first_reason_that_applies(use: Use, reason: Reason | None) -> None:
    assert verdict(use, CONFIG) is reason


def test_after_the_reset_a_clean_report_is_needed_too() -> None:
    assert verdict(used(), CONFIG, CLEAN) is None
    assert verdict(used(), CONFIG, DIRTY) is Reason.DIRTY
    assert verdict(used(lost=True), CONFIG, DIRTY) is Reason.LOST
    assert verdict(used(age_s=100.0), CONFIG, CLEAN) is Reason.MAX_AGE
