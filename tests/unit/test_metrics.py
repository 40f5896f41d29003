"""Metrics: what is counted, and that labels stay few."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pgexec.metrics import Metrics
from pool.job import ResetReport, Status
from pool.observer import Rejection, Snapshot, Source
from pool.policy import Reason


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(metrics.render().decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, **labels: str) -> float:
    return samples(metrics)[name, tuple(sorted(labels.items()))]


def test_a_run_is_counted_with_its_time_and_its_overhead() -> None:
    metrics = Metrics()
    metrics.ran("python", Status.TIMEOUT, 0.5, 0.25)
    assert value(metrics, "pgexec_runs_total", language="python", status="timeout") == 1
    assert value(metrics, "pgexec_run_duration_seconds_sum") == 0.25
    assert value(metrics, "pgexec_overhead_seconds_sum") == 0.25


def test_every_status_is_there_before_it_happens() -> None:
    metrics = Metrics()
    for status in Status:
        assert value(metrics, "pgexec_runs_total", language="python", status=status.value) == 0


def test_clocks_that_disagree_make_no_negative_overhead() -> None:
    metrics = Metrics()
    metrics.ran("python", Status.OK, 0.1, 0.2)
    assert value(metrics, "pgexec_overhead_seconds_sum") == 0


def test_buckets_resolve_half_a_millisecond_to_a_minute() -> None:
    metrics = Metrics()
    names = ["run_duration", "overhead", "lease_wait", "request_duration", "container_start"]
    for name in names:
        for bound in ("0.0005", "60.0"):
            assert value(metrics, f"pgexec_{name}_seconds_bucket", le=bound) == 0


def test_only_runs_enter_the_histogram_of_requests() -> None:
    metrics = Metrics()
    metrics.answered("/run", 200, 0.01)
    metrics.answered("/ping", 200, 0.01)
    assert value(metrics, "pgexec_request_duration_seconds_count") == 1
    assert value(metrics, "pgexec_requests_total", path="/ping", status="200") == 1


def test_what_the_pool_reports_is_counted() -> None:
    metrics = Metrics()
    metrics.started(0.1)
    metrics.start_failed("engine")
    metrics.leased(Source.IDLE, 0.0)
    metrics.rejected(Rejection.SATURATED)
    metrics.rejected(Rejection.TENANT_SATURATED)
    metrics.reset(0.001, ResetReport(clean=True, detail=""))
    metrics.reset(0.001, ResetReport(clean=False, detail="a file is left"))
    metrics.recycled()
    metrics.destroyed(Reason.MAX_USES, 100)
    assert value(metrics, "pgexec_container_starts_total") == 1
    assert value(metrics, "pgexec_container_start_seconds_sum") == 0.1
    assert value(metrics, "pgexec_container_start_failures_total", reason="engine") == 1
    assert value(metrics, "pgexec_leases_total", source="idle") == 1
    assert value(metrics, "pgexec_rejections_total", reason="saturated") == 1
    assert value(metrics, "pgexec_rejections_total", reason="tenant_saturated") == 1
    assert value(metrics, "pgexec_container_resets_total", outcome="clean") == 1
    assert value(metrics, "pgexec_container_resets_total", outcome="dirty") == 1
    assert value(metrics, "pgexec_container_recycled_total") == 1
    assert value(metrics, "pgexec_container_destroyed_total", reason="max_uses") == 1
    assert value(metrics, "pgexec_container_uses_sum") == 100


def test_states_are_read_from_the_pool_when_somebody_scrapes() -> None:
    metrics = Metrics()
    snapshots = [
        Snapshot(
            starting=1,
            idle=idle,
            leased=3,
            resetting=0,
            destroying=0,
            waiting=7,
            draining=False,
            closed=False,
            start_failure=None,
            unready=None,
        )
        for idle in (2, 5)
    ]
    metrics.watch(lambda: snapshots[0])
    assert value(metrics, "pgexec_containers", state="idle") == 2
    assert value(metrics, "pgexec_containers", state="starting") == 1
    assert value(metrics, "pgexec_waiters") == 7
    del snapshots[0]
    assert value(metrics, "pgexec_containers", state="idle") == 5


def test_two_servers_in_a_process_do_not_share_series() -> None:
    first, second = Metrics(), Metrics()
    first.recycled()
    assert value(second, "pgexec_container_recycled_total") == 0


def test_the_build_and_the_process_are_described() -> None:
    names = {name for name, _ in samples(Metrics())}
    assert {"pgexec_build_info", "process_resident_memory_bytes"} <= names


@pytest.mark.parametrize("name", ["_created"])
def test_there_are_no_series_of_creation_times(name: str) -> None:
    assert not [key for key in samples(Metrics()) if key[0].endswith(name)]
