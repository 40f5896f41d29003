"""Metrics: what is counted, and that labels stay few."""

from __future__ import annotations

import dataclasses
import platform
import sys
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pgexec.telemetry.labels import START_FAILURES
from pgexec.telemetry.metrics import Metrics
from pool.config import PoolConfig
from pool.engine.api import Failure, Leak, Operation
from pool.errors import EngineError, PoolError, RunnerProtocolError
from pool.job import ResetReport, Status
from pool.observer import Rejection, Snapshot, Source
from pool.sizing.recycling import Reason
from tests.unit.rig import rig


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
    assert value(metrics, "pgexec_runs_total", profile="python", status="timeout") == 1
    assert value(metrics, "pgexec_run_duration_seconds_sum") == 0.25
    assert value(metrics, "pgexec_overhead_seconds_sum") == 0.25


def test_every_status_is_there_before_it_happens() -> None:
    metrics = Metrics()
    for status in Status:
        assert value(metrics, "pgexec_runs_total", profile="python", status=status.value) == 0


def test_clocks_that_disagree_make_no_negative_overhead() -> None:
    metrics = Metrics()
    metrics.ran("python", Status.OK, 0.1, 0.2)
    assert value(metrics, "pgexec_overhead_seconds_sum") == 0


def test_buckets_resolve_half_a_millisecond_to_a_minute() -> None:
    metrics = Metrics()
    metrics.pool("python")
    for name in ("run_duration", "overhead", "request_duration"):
        for bound in ("0.0005", "60.0"):
            assert value(metrics, f"pgexec_{name}_seconds_bucket", le=bound) == 0
    for name in ("lease_wait", "container_start", "container_reset"):
        for bound in ("0.0005", "60.0"):
            bucket = f"pgexec_{name}_seconds_bucket"
            assert value(metrics, bucket, profile="python", le=bound) == 0


def test_only_runs_enter_the_histogram_of_requests() -> None:
    metrics = Metrics()
    metrics.answered("/run", 200, 0.01)
    metrics.answered("/ping", 200, 0.01)
    assert value(metrics, "pgexec_request_duration_seconds_count") == 1
    assert value(metrics, "pgexec_requests_total", path="/ping", status="200") == 1


def test_what_a_pool_reports_is_counted_under_its_name() -> None:
    metrics = Metrics()
    pool = metrics.pool("python")
    pool.started(0.1)
    pool.start_failed("engine_error")
    pool.leased(Source.IDLE, 0.0)
    pool.rejected(Rejection.SATURATED)
    pool.rejected(Rejection.TENANT_SATURATED)
    pool.reset(0.001, ResetReport(clean=True, detail=""))
    pool.reset(0.001, ResetReport(clean=False, detail="a file is left"))
    pool.recycled()
    pool.destroyed(Reason.MAX_USES, 100)
    counted = {
        ("container_starts_total", ""): 1,
        ("container_start_seconds_sum", ""): 0.1,
        ("container_start_failures_total", "reason=engine_error"): 1,
        ("leases_total", "source=idle"): 1,
        ("lease_wait_seconds_count", ""): 1,
        ("rejections_total", "reason=saturated"): 1,
        ("rejections_total", "reason=tenant_saturated"): 1,
        ("container_resets_total", "outcome=clean"): 1,
        ("container_resets_total", "outcome=dirty"): 1,
        ("container_reset_seconds_count", ""): 2,
        ("container_recycled_total", ""): 1,
        ("container_destroyed_total", "reason=max_uses"): 1,
        ("container_uses_sum", ""): 100,
    }
    for (name, label), expected in counted.items():
        labels = dict([label.split("=")] if label else [])
        assert value(metrics, f"pgexec_{name}", profile="python", **labels) == expected


def test_each_pool_has_series_of_its_own() -> None:
    metrics = Metrics()
    first, second = metrics.pool("python"), metrics.pool("numpy")
    first.recycled()
    second.leased(Source.WAITED, 0.5)
    assert metrics.pool("python") is first
    recycled = "pgexec_container_recycled_total"
    assert value(metrics, recycled, profile="python") == 1
    assert value(metrics, recycled, profile="numpy") == 0
    waited = "pgexec_lease_wait_seconds_sum"
    assert value(metrics, waited, profile="python") == 0
    assert value(metrics, waited, profile="numpy") == 0.5


def test_a_failure_to_start_that_nobody_foresaw_is_another() -> None:
    metrics = Metrics()
    for number in range(50):
        metrics.pool("python").start_failed(f"error_{number}")
    failures = "pgexec_container_start_failures_total"
    assert value(metrics, failures, profile="python", reason="other") == 50
    assert len([name for name, _ in samples(metrics) if name == failures]) == len(START_FAILURES)


def test_each_kind_of_failure_to_start_that_there_is_has_its_name() -> None:
    errors: list[type[PoolError]] = [RunnerProtocolError, EngineError]
    errors += EngineError.__subclasses__()
    assert {error("").kind for error in errors} <= set(START_FAILURES)


def test_what_the_engine_was_asked_is_counted_with_its_failures() -> None:
    metrics = Metrics()
    engine = metrics.engine
    engine.called(Operation.CREATE, 0.5, None)
    engine.called(Operation.CREATE, 1.0, Failure.UNAVAILABLE)
    engine.leaked(Leak.LEFT_OVER)
    engine.received_bytes += 10
    engine.sent_bytes += 20
    call_s = "pgexec_engine_call_duration_seconds"
    assert value(metrics, f"{call_s}_sum", operation="create") == 1.5
    assert value(metrics, f"{call_s}_count", operation="create") == 2
    errors = "pgexec_engine_errors_total"
    assert value(metrics, errors, operation="create", reason="unavailable") == 1
    assert value(metrics, errors, operation="create", reason="refused") == 0
    assert value(metrics, "pgexec_leaked_containers_total", kind="left_over") == 1
    assert value(metrics, "pgexec_stream_received_bytes_total") == 10
    assert value(metrics, "pgexec_stream_sent_bytes_total") == 20


def snapshot(**changes: Any) -> Snapshot:
    names = [field.name for field in dataclasses.fields(Snapshot)]
    fields: dict[str, Any] = dict.fromkeys(names, 0) | {"start_failure": None, "unready": None}
    return Snapshot(**(fields | changes))


def test_states_are_read_from_the_pool_when_somebody_scrapes() -> None:
    metrics = Metrics()
    now = [
        snapshot(idle=2, starting=1, waiting=7),
        snapshot(idle=5, start_failure="no image", unready="no image"),
    ]
    config = PoolConfig(min_idle=3, max_containers=9, max_waiting=11)
    metrics.pool("python").watch(lambda: now[0], config)

    def gauge(name: str, **labels: str) -> float:
        return value(metrics, f"pgexec_{name}", profile="python", **labels)

    assert gauge("containers", state="idle") == 2
    assert gauge("containers", state="starting") == 1
    assert gauge("waiters") == 7
    assert (gauge("pool_ready"), gauge("pool_backing_off")) == (1, 0)
    limits = ("pool_min_idle", "pool_max_containers", "pool_max_waiting")
    assert tuple(map(gauge, limits)) == (3, 9, 11)
    del now[0]
    assert gauge("containers", state="idle") == 5
    assert gauge("waiters") == 0
    assert (gauge("pool_ready"), gauge("pool_backing_off")) == (0, 1)


def test_two_servers_in_a_process_do_not_share_series() -> None:
    first, second = Metrics(), Metrics()
    first.pool("python").recycled()
    second.pool("python")
    assert value(second, "pgexec_container_recycled_total", profile="python") == 0


def test_a_language_that_nobody_foresaw_makes_no_series() -> None:
    metrics = Metrics()
    before = samples(metrics).keys()
    for number in range(50):
        metrics.ran(f"language {number}", Status.OK, 0.5, 0.25)
    assert samples(metrics).keys() == before
    assert value(metrics, "pgexec_runs_total", profile="other", status="ok") == 50


def work_of_a_scrape(metrics: Metrics) -> int:
    """Count the calls, Python's and C's, that one scrape makes of code of ours."""
    calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in {"call", "c_call"}

    sys.setprofile(count)
    try:
        metrics.render()
    finally:
        sys.setprofile(None)
    return calls


@pytest.mark.clock
async def test_a_scrape_is_as_much_work_with_200_containers_as_with_none() -> None:
    metrics = Metrics()
    metrics.pool("python")
    metrics.render()  # the first one writes down what the others have by heart
    sizes = []
    for containers in (0, 200):
        async with rig(min_idle=containers, max_containers=200, start_concurrency=200) as pool:
            metrics.pool("python").watch(pool.pool.snapshot, pool.pool.config)
            sizes.append(work_of_a_scrape(metrics))
            assert value(metrics, "pgexec_containers", profile="python", state="idle") == containers
    assert abs(sizes[1] - sizes[0]) < 100  # the collector of the process differs by a few
    assert len(samples(metrics)) < 1000


def test_the_build_and_the_process_are_described() -> None:
    names = {name for name, _ in samples(Metrics())}
    assert {"pgexec_build_info", "process_resident_memory_bytes"} <= names


@pytest.mark.parametrize("name", ["", "one"])
def test_the_build_names_its_server(name: str) -> None:
    assert f'pgexec_build_info{{python="{platform.python_version()}",server="{name}"' in (
        Metrics(server=name).render().decode()
    )


@pytest.mark.parametrize("name", ["_created"])
def test_there_are_no_series_of_creation_times(name: str) -> None:
    assert not [key for key in samples(Metrics()) if key[0].endswith(name)]
