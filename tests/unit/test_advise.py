"""Advice: what it says of what was seen, and where it finds that."""

from __future__ import annotations

import contextlib
import json
import math
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pgexec.__main__ import main
from pgexec.advise.advice import (
    DifferentError,
    Evidence,
    advise,
    least,
    render,
    render_json,
    together,
)
from pgexec.advise.sources import SourceError, evidence_of, in_text, of_metrics, of_trace
from pgexec.advise.traces import Request, TraceError, read_trace
from pgexec.settings import Settings
from pgexec.telemetry.metrics import Metrics
from pool.job import Status
from pool.observer import Source
from pool.sizing.demand import DemandReport
from pool.sizing.recycling import Outcome
from tests.prometheus import promtool

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CALM = Evidence(
    min_idle=4,
    max_containers=16,
    autoscale=True,
    max_uses=100,
    memory_limit=256 << 20,
    leases=1000,
    waited=0,
    refused=0,
    mean_wait_s=0.0,
    start_s=0.3,
    held_s=0.5,
    worn_out=10,
    runs=1000,
    out_of_memory=0,
    levels={1: 500, 4: 480, 6: 20},
    rises={1: 900, 4: 100},
)


def advised(**changes: object) -> dict[str, str]:
    seen = replace(CALM, **changes)  # type: ignore[arg-type]
    return {change.setting: change.advised for change in advise(seen).changes}


def test_a_pool_that_fits_is_left_alone() -> None:
    assert advised() == {}
    assert render(advise(CALM)).endswith("Nothing to change")


def test_servers_that_are_alike_are_advised_as_one() -> None:
    calm, busy = (
        CALM,
        replace(
            CALM, leases=3000, waited=400, mean_wait_s=0.04, runs=3000, held_s=0.1, rises={7: 4000}
        ),
    )
    both = together([calm, busy])
    assert (both.leases, both.waited, both.runs) == (4000, 400, 4000)
    assert (both.mean_wait_s, both.held_s) == pytest.approx((0.03, 0.2))
    assert both.rises == {1: 900, 4: 100, 7: 4000}
    assert both.levels == {1: 1000, 4: 960, 6: 40}
    assert [change.advised for change in advise(both).changes] == ["7"]
    assert together([calm]) == calm


def test_servers_that_differ_are_not_advised_as_one() -> None:
    with pytest.raises(DifferentError, match=r"differ in max_uses \(1 and 100\)"):
        together([CALM, replace(CALM, max_uses=1)])


def test_min_idle_covers_all_but_one_arrival_in_a_hundred() -> None:
    rises = {1: 900.0, 7: 95.0, 12: 5.0}
    assert advised(rises=rises, waited=80) == {"PGEXEC_POOL_MIN_IDLE": "7"}
    assert advised(rises=rises, waited=5) == {}  # the tuner covers it already
    assert advised(rises=rises, waited=5, autoscale=False) == {"PGEXEC_POOL_MIN_IDLE": "7"}
    assert advised(rises={1: 999.0, 4: 1.0}) == {"PGEXEC_POOL_MIN_IDLE": "1"}


def test_the_expected_wait_is_that_of_the_arrivals_that_are_still_too_many() -> None:
    advice = advise(replace(CALM, rises={1: 900, 7: 95, 12: 5}, waited=100, mean_wait_s=0.02))
    assert advice.waited_share == 0.1
    assert advice.expected_waited_share == 0.005
    assert advice.expected_mean_wait_s == pytest.approx(0.001)


def test_max_containers_grows_to_what_was_needed_at_once() -> None:
    levels = {4: 900.0, 24: 100.0}
    assert advised(levels=levels) == {"PGEXEC_POOL_MAX_CONTAINERS": "24"}
    assert advised(levels={4: 900.0, math.inf: 9.0}) == {"PGEXEC_POOL_MAX_CONTAINERS": "24"}


def test_memory_follows_the_kills_and_the_peaks() -> None:
    assert advised(out_of_memory=20) == {"PGEXEC_MEMORY_LIMIT": "512MiB"}
    small = {float(16 << 20): 1000.0}
    assert advised(peaks=small) == {"PGEXEC_MEMORY_LIMIT": "64MiB"}
    assert advised(peaks=small, out_of_memory=1) == {}
    assert advised(peaks={float(128 << 20): 1000.0}) == {}
    assert advised(peaks={math.inf: 1000.0}) == {}


def test_max_uses_grows_where_starts_take_more_than_a_twentieth() -> None:
    assert advised(max_uses=2) == {"PGEXEC_MAX_USES": "20"}
    assert advised(max_uses=2, worn_out=0) == {}
    assert advised(held_s=0.002) == {"PGEXEC_MAX_USES": "5000"}
    change = advise(replace(CALM, max_uses=1)).changes[0]
    assert "keep 1 if nobody may ever get a used one" in change.why


def test_of_too_little_nothing_is_said() -> None:
    few = advise(replace(CALM, leases=99, out_of_memory=50))
    assert (few.changes, few.enough) == ([], False)
    assert "Too few" in render(few)


def test_people_get_a_line_for_each_setting_and_machines_json() -> None:
    advice = advise(replace(CALM, max_uses=2, out_of_memory=20))
    lines = render(advice).split("\n")
    assert lines[0] == "1000 leases: 0.0% waited for a container, 0 ms on average"
    assert lines[1].startswith("PGEXEC_MEMORY_LIMIT=512MiB instead of 256MiB: 2.0% of runs")
    document = json.loads(render_json(advice))
    assert document["enough"] is True
    assert document["changes"][0]["setting"] == "PGEXEC_MEMORY_LIMIT"


def test_the_least_bound_is_the_lowest_that_few_enough_exceed() -> None:
    assert least({1: 99, 2: 1}, 0.01) == 1
    assert least({1: 98, 2: 2}, 0.01) == 2
    assert least({}, 0.01) == 0


# --- from metrics -------------------------------------------------------------------------------


def exposition() -> str:
    """Be a server whose pool `python` is advised, beside a profile that is of no interest."""
    metrics = Metrics(("python", "data"))
    levels, rises = [0] * 30, [0] * 30
    levels[3], levels[28], rises[2] = 150, 50, 200
    report = DemandReport(
        arrivals_per_s=2.5, target_idle=5, recommended_idle=2, levels=levels, rises=rises
    )
    pools = {"python": lambda: report, "data": lambda: replace(report, levels=[0] * 29 + [900])}
    metrics.demand.watch(pools, Settings.of(max_uses=7))
    metrics.pool("data").leased(Source.WAITED, 60.0)
    metrics.ran("data", Status.MEMORY_LIMIT, 2.0, 1.5)
    pool = metrics.pool("python")
    for source, waited_s in ((Source.IDLE, 0.0), (Source.STARTED, 1.0)):
        for _ in range(100):
            pool.leased(source, waited_s)
    pool.started(0.25)
    metrics.ran("python", Status.MEMORY_LIMIT, 2.0, 1.5)
    metrics.used_memory(20 << 20)
    return metrics.render().decode()


def test_the_series_of_a_server_are_evidence() -> None:
    seen = of_metrics(in_text(exposition()))
    assert (seen.min_idle, seen.max_containers, seen.max_uses) == (4, 16, 7)
    assert (seen.autoscale, seen.memory_limit) == (True, 256 << 20)
    assert (seen.leases, seen.waited, seen.mean_wait_s) == (200, 100, 0.5)
    assert (seen.start_s, seen.held_s, seen.runs, seen.out_of_memory) == (0.25, 1.5, 1, 1)
    assert {bound: many for bound, many in seen.levels.items() if many} == {3: 150, 28: 50}
    assert least(seen.rises, 0.01) == 2
    assert least(seen.peaks, 0.01) == 32 << 20


def test_demand_is_shown_as_gauges_and_histograms() -> None:
    families = {one.name: one for one in text_string_to_metric_families(exposition())}
    for name, value in (
        ("pgexec_arrivals_per_second", 2.5),
        ("pgexec_target_idle_containers", 5),
        ("pgexec_recommended_idle_containers", 2),
    ):
        assert families[name].type == "gauge"
        assert families[name].samples[0].value == value
    assert families["pgexec_demand_containers"].type == "histogram"
    sums = [one for one in families["pgexec_demand_containers"].samples if one.name[-3:] == "sum"]
    assert sums[0].value == 150 * 3 + 50 * 28


def test_the_names_and_types_are_as_prometheus_wants_them() -> None:
    assert promtool("check", "metrics", text=exposition()) == ""


def test_what_is_no_server_of_ours_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no series of pgexec"):
        of_metrics(in_text("# HELP a b\na 1\n"))
    with pytest.raises(SourceError, match="does not answer"):
        evidence_of("http://127.0.0.1:1/metrics", "7d", Settings.of())
    with pytest.raises(SourceError, match="cannot be read: No such file"):
        evidence_of(str(tmp_path / "none.csv"), "7d", Settings.of())
    for url in ("localhost:8080/metrics", "10.0.0.1:9090", "ftp://host/metrics"):
        with pytest.raises(SourceError, match="a URL begins with http://"):
            evidence_of(url, "7d", Settings.of())


@pytest.mark.parametrize("answer", ["<html>", "[]", '{"data": null}', '{"data": {"result": [1]}}'])
def test_what_is_no_prometheus_is_said_so(monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    monkeypatch.setattr("pgexec.advise.sources._fetch", lambda *_, **__: answer)
    with pytest.raises(SourceError, match="host/api/v1/query does not answer as a Prometheus"):
        evidence_of("http://host", "7d", Settings.of())


@pytest.mark.parametrize("window", ["7", "", "d", "0d", "-1d", "7 d", "7d]", "1.5h", "week"])
def test_a_window_that_prometheus_does_not_know_is_refused_in_one_sentence(
    window: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["advise", "http://127.0.0.1:1", f"--window={window}"]) == 1
    said = "must be a number with its unit, such as 30m, 12h or 7d"
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"pgexec: --window is {window!r}, but {said}"]
    for known in ("30m", "7d", "1d12h"):
        with pytest.raises(SourceError, match="does not answer"):
            evidence_of("http://127.0.0.1:1", known, Settings.of())


@contextlib.contextmanager
def locked(key: str) -> Iterator[str]:
    """Serve metrics to those who have a key, as a server with API keys does; yield the URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            allowed = self.headers["Authorization"] == f"Bearer {key}"
            self.send_response(200 if allowed else 401)
            self.end_headers()
            self.wfile.write(exposition().encode() if allowed else b"no key")

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/metrics"
        finally:
            server.shutdown()
            thread.join()


def test_a_server_with_keys_is_sent_one_that_is_never_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with locked("s3cret") as url:
        assert main(["advise", url]) == 1
        assert "answers 401: no key" in capsys.readouterr().err
        assert main(["advise", "--key", "s3cret", url]) == 0
        monkeypatch.setenv("PGEXEC_API_KEY", "s3cret")
        assert main(["advise", url]) == 0
        assert "200 leases" in capsys.readouterr().out
        for wrong in ("wr0ng", "wr0ng\r\nX: y", "wr0ngä"):
            assert main(["advise", "--key", wrong, url]) == 1
            printed = "".join(capsys.readouterr())
            assert "wr0ng" not in printed
            assert "s3cret" not in printed
        with pytest.raises(SystemExit):
            main(["advise", "--help"])
        assert "s3cret" not in capsys.readouterr().out


# --- from traces --------------------------------------------------------------------------------


def test_a_trace_is_replayed_with_the_settings_of_this_machine() -> None:
    herd = [Request(400.0 * number + 0.5, 1.0) for number in range(30) for _ in range(6)]
    seen = of_trace(herd, Settings.of(pool_min_idle=2, pool_autoscale=False, max_age_s=10**6))
    assert (seen.leases, seen.waited, seen.refused) == (180, 120, 0)
    assert [seen.rises[level] for level in range(8)] == [0, 30, 30, 30, 30, 30, 30, 0]
    changes = {one.setting: one.advised for one in advise(seen).changes}
    assert changes == {"PGEXEC_POOL_MIN_IDLE": "6"}


def test_what_goes_on_all_the_time_needs_no_idle_containers_of_its_own() -> None:
    """One every second that takes five: five are in use, and each rise is one or two."""
    seen = of_trace([Request(second + 0.5, 5.2) for second in range(300)], Settings.of())
    assert least(seen.levels, 0) == 6
    assert least(seen.rises, 0.01) <= 2


def test_a_table_is_a_trace(tmp_path: Path) -> None:
    requests = [Request(0.0, 0.25, "a"), Request(1.5, 2.0, "b", Outcome.TIMEOUT)]
    rows = ("at_s,held_s,tenant,outcome", "3,0.25,a,ok", "4.5,2,b,timeout")
    (tmp_path / "trace.csv").write_text("\n".join(rows))
    assert read_trace(tmp_path / "trace.csv") == requests


def test_the_servers_own_log_is_a_trace(tmp_path: Path) -> None:
    begin = {"event": "request", "run_status": "ok", "lease_ms": 50.0, "ms": 60.0}
    lines = [
        {"time": "2026-01-02T03:04:05.060Z", "event": "listening"},
        {"time": "2026-01-02T03:04:05.060Z", **begin, "tenant": "a"},
        {"time": "2026-01-02T03:04:07.060Z", **begin, "run_status": "timeout"},
        {"time": "2026-01-02T03:04:08.060Z", "event": "request", "status": 400, "ms": 1},
    ]
    (tmp_path / "logs.txt").write_text("\n".join(map(json.dumps, lines)))
    first, second = read_trace(tmp_path / "logs.txt")
    assert (first.at_s, first.tenant, second.outcome) == (0.0, "a", Outcome.TIMEOUT)
    assert first.held_s == pytest.approx(0.05)
    assert second.at_s == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "no requests"),
        (b"a,b\n1,2\n", "no requests"),
        (b"at_s,held_s\n", "no requests"),
        (b"{", "no requests"),
        (b'{"event": []}\n[1]\n5\nnull\n"request"\n', "no requests"),
        (b"at_s,held_s\n1,2\nx,1\n", "line 3: at_s is 'x'"),
        (b"at_s,held_s\n1\n", "line 2: held_s is None"),
        (b"at_s,held_s\n1,nan\n", "line 2: held_s is 'nan'"),
        (b"at_s,held_s\n1,-1\n", "line 2: held_s is '-1'"),
        (b"at_s,held_s\ninf,1\n", "line 2: at_s is 'inf'"),
        (b"at_s,held_s,outcome\n1,1,fine\n", "line 2: 'fine' is not a valid Outcome"),
        (b"at_s,held_s\n0,1\n86400000,1\n", "more than a year: at_s and held_s must be in seconds"),
        (b"at_s,held_s\n0,1e308\n1e308,1e308\n", "lasts inf s, more than a year"),
        (b"\xff\xfe\x00", "it is no text"),
    ],
)
def test_what_is_no_trace_is_refused_with_a_sentence(
    tmp_path: Path, text: bytes, said: str
) -> None:
    (tmp_path / "trace").write_bytes(text)
    with pytest.raises(TraceError, match=said):
        read_trace(tmp_path / "trace")


def test_a_log_that_breaks_off_and_shares_its_file_is_a_trace_all_the_same(
    tmp_path: Path,
) -> None:
    run = '{"time": "2026-01-02T03:04:05.060Z", "event": "request", "run_status": "ok"'
    whole = run + ', "lease_ms": 50.0, "ms": 60.0}'
    lines = ("pgexec: creating .venv", "", whole, "[]", run + "}", whole, whole[:50])
    (tmp_path / "logs.txt").write_text("\n".join(lines))
    assert len(read_trace(tmp_path / "logs.txt")) == 2


def test_the_command_prints_advice_and_fails_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "metrics").write_text(exposition())
    assert main(["advise", str(tmp_path / "metrics")]) == 0
    assert "PGEXEC_POOL_MAX_CONTAINERS=28 instead of 16" in capsys.readouterr().out
    assert main(["advise", "--json", str(tmp_path / "metrics")]) == 0
    assert json.loads(capsys.readouterr().out)["leases"] == 200
    assert main(["advise", str(tmp_path / "none")]) == 1
    assert capsys.readouterr().err.startswith("pgexec: ")


def test_a_source_that_is_named_twice_counts_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("at_s,held_s\n" + "".join(f"{second},0.5\n" for second in range(100)))
    told = []
    for sources in ([str(trace)], [str(trace)] * 2):
        assert main(["advise", "--json", *sources]) == 0
        told.append(json.loads(capsys.readouterr().out))
    assert [one["leases"] for one in told] == [100, 100]
