"""What is kept of the last runs, and of whose."""

from __future__ import annotations

import time
from typing import Any

from pgexec.http.recent import KEPT, SHOWN, WINDOW_S, Recent
from pgexec.http.record import Record
from pgexec.service import Timings
from tests.unit.http.rig import make_result


def make_record(name: str = "id", *, tenant: str = "", run_s: float = 0.001, **changes: Any) -> Any:
    """Return the record of a request that ran well, or as the changes say."""
    record = Record(name, tenant=tenant, language="python")
    record.timings = Timings(container_id="c0ffee" * 10, queue_s=0.0, run_s=run_s)
    record.result = make_result(duration_s=run_s)
    for field, value in changes.items():
        setattr(record, field, value)
    return record


def test_a_run_is_kept_without_code_and_output() -> None:
    recent = Recent()
    recent.ended(make_record("abc"), 0.25)
    document: Any = recent.document("")
    (run,) = document["recent"]
    assert abs(run.pop("time") - time.time()) < 60
    assert run == {
        "request_id": "abc",
        "language": "python",
        "status": "ok",
        "queue_s": 0.0,
        "install_s": None,
        "run_s": 0.001,
        "total_s": 0.25,
        "container": "c0ffeec0ffee",
    }
    assert document["ran"] == 1


def test_the_last_runs_are_shown_newest_first_and_no_more_than_that() -> None:
    recent = Recent()
    for number in range(KEPT + 10):
        recent.ended(make_record(str(number)), 0.1)
    document: Any = recent.document("")
    last = KEPT + 10
    names = [run["request_id"] for run in document["recent"]]
    assert names == [str(number) for number in range(last - 1, last - 1 - SHOWN, -1)]
    assert document["ran"] == last
    assert document["latency"]["runs"] == KEPT


def test_percentiles_are_of_the_nearest_rank() -> None:
    recent = Recent()
    for number in range(1, 201):
        recent.ended(make_record(run_s=number / 1000), number / 100)
    document: Any = recent.document("")
    assert document["latency"]["run"] == {"p50": 0.1, "p99": 0.198}
    assert document["latency"]["total"] == {"p50": 1.0, "p99": 1.98}
    assert document["latency"]["queue"] == {"p50": 0.0, "p99": 0.0}


def test_the_wait_for_dependencies_is_of_the_runs_that_had_any() -> None:
    recent = Recent()
    recent.ended(make_record(), 0.1)
    document: Any = recent.document("")
    assert document["latency"]["install"] is None
    timings = Timings(container_id="c0ffee", queue_s=0.0, install_s=2.5, run_s=0.001)
    recent.ended(make_record(timings=timings), 2.6)
    document = recent.document("")
    assert document["latency"]["install"] == {"p50": 2.5, "p99": 2.5}
    assert [run["install_s"] for run in document["recent"]] == [2.5, None]


def test_old_runs_and_unfinished_ones_do_not_count_in_latencies() -> None:
    recent = Recent()
    recent.ended(make_record(began=time.perf_counter() - WINDOW_S - 60), 1.0)
    stopped = Timings(container_id="c0ffee", queue_s=0.0)
    recent.ended(make_record(timings=stopped, result=None, code="client_gone"), 2.0)
    document: Any = recent.document("")
    assert [run["status"] for run in document["recent"]] == ["client_gone", "ok"]
    assert document["latency"]["runs"] == 0
    assert document["latency"]["run"] is None


def test_what_got_no_container_is_counted_by_reason_only() -> None:
    recent = Recent()
    for code in ("saturated", "saturated", "lease_timeout"):
        recent.ended(make_record(timings=Timings(queue_s=1.0), result=None, code=code), 1.0)
    document: Any = recent.document("")
    assert document["refused"] == {"saturated": 2, "lease_timeout": 1}
    assert (document["ran"], document["recent"]) == (0, [])


def test_requests_that_never_asked_for_a_container_leave_nothing() -> None:
    recent = Recent()
    recent.ended(make_record(timings=None, result=None, code="unauthorized"), 0.1)
    document: Any = recent.document("")
    assert (document["refused"], document["recent"]) == ({}, [])


def test_tenants_see_their_own_runs_only() -> None:
    recent = Recent()
    recent.ended(make_record("hers", tenant="alice"), 0.1)
    recent.ended(make_record(tenant="alice", timings=Timings(), result=None, code="saturated"), 0.1)
    for number in range(KEPT):
        recent.ended(make_record(str(number), tenant="bob"), 9.0)
    hers: Any = recent.document("alice")
    assert [run["request_id"] for run in hers["recent"]] == ["hers"]
    assert hers["latency"]["total"] == {"p50": 0.1, "p99": 0.1}
    assert hers["refused"] == {"saturated": 1}
    his: Any = recent.document("bob")
    assert (his["refused"], his["ran"]) == ({}, KEPT)
    nobody: Any = recent.document("carol")
    assert (nobody["refused"], nobody["ran"], nobody["recent"]) == ({}, 0, [])
