"""The doctor without an engine: versions, lines, statuses, and what stops a check."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from pgexec.__main__ import main
from pgexec.doctor import examination, machine, trials
from pgexec.doctor.examination import OF_A_CONTAINER, OF_THE_ENGINE, examine
from pgexec.doctor.facts import Info, Version
from pgexec.doctor.findings import (
    CheckStatus,
    Finding,
    Observation,
    exit_status,
    fail,
    ok,
    render,
    render_json,
    skip,
    warn,
)
from pgexec.doctor.machine import EngineReport, Machine
from pgexec.doctor.versions import CONTAINERD_FIXES, RUNC_FIXES, open_escapes, parse
from pgexec.settings import Settings, load_settings
from pool.engine.spec import ContainerSpec
from pool.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from pgexec.doctor.sandbox import Sandbox

LEAK = "CVE-2024-21626"
RACES = ["CVE-2025-31133", "CVE-2025-52565", "CVE-2025-52881"]
NOWHERE = "unix:///nowhere/docker.sock"


@pytest.mark.parametrize(
    ("version", "escapes"),
    [
        ("1.0.0-rc6", ["CVE-2019-5736", "CVE-2021-30465", LEAK, *RACES]),
        ("1.0.0-rc10", ["CVE-2021-30465", LEAK, *RACES]),
        ("1.0.0-rc95", [LEAK, *RACES]),
        ("1.0.3", [LEAK, *RACES]),
        ("1.1.11", [LEAK, *RACES]),
        ("1.1.5+ds1", [LEAK, *RACES]),
        ("1.1.5+ds1-1+deb12u1", RACES),
        ("1.1.5+ds1-1+b1", [LEAK, *RACES]),
        ("1.1.12", RACES),
        ("v1.1.12-0-g51d5e94", RACES),
        ("1.1.15", RACES),
        ("1.2.0-rc.1", RACES),
        ("1.2.7", RACES),
        ("1.2.8", []),
        ("1.2.10", []),
        ("1.3.0", RACES),
        ("1.3.2-0ubuntu1", RACES),
        ("1.3.3", []),
        ("1.4.0-rc.2", RACES),
        ("1.4.0~rc2", RACES),
        ("1.4.0-rc.3", []),
        ("1.4.0", []),
        ("1.5.0-rc.1", []),
        ("2.0.0", []),
    ],
)
def test_a_version_of_runc_is_open_to_what_its_branch_has_not_fixed(
    version: str, escapes: list[str]
) -> None:
    assert open_escapes(version, RUNC_FIXES) == escapes


@pytest.mark.parametrize(
    ("version", "escapes"),
    [
        ("1.3.8", ["CVE-2020-15257", "CVE-2022-23648"]),
        ("1.4.3", ["CVE-2022-23648"]),
        ("1.6.0", ["CVE-2022-23648"]),
        ("1.6.20~ds1-1+deb12u3", []),
        ("v2.1.4", []),
    ],
)
def test_a_version_of_containerd_is_open_to_what_its_branch_has_not_fixed(
    version: str, escapes: list[str]
) -> None:
    assert open_escapes(version, CONTAINERD_FIXES) == escapes


@pytest.mark.parametrize("version", ["", "unknown", "git-5d6db84", "7"])
def test_a_version_that_cannot_be_read_is_not_called_safe(version: str) -> None:
    assert open_escapes(version, RUNC_FIXES) is None


def test_a_release_candidate_comes_before_its_release() -> None:
    versions = ["1.4.0-rc.1", "1.4.0-rc.2", "1.4.0-rc.10", "1.4.0", "1.4.1-rc.1", "1.10.0"]
    numbers = [parse(version) for version in versions]
    assert None not in numbers
    assert numbers == sorted(number for number in numbers if number)


def test_a_finding_is_one_line_with_its_remedy() -> None:
    assert render(ok("all is\nwell").of("kernel")) == "ok    kernel           all is well"
    assert (
        render(warn("it is old", "update it").of("runc"))
        == "warn  runc             it is old; remedy: update it"
    )


def test_findings_for_machines_have_four_words_each() -> None:
    findings = [fail("gone", "bring it").of("engine"), skip("nothing").of("kernel")]
    assert json.loads(render_json(findings)) == [
        {"check": "engine", "status": "fail", "finding": "gone", "remedy": "bring it"},
        {"check": "kernel", "status": "skip", "finding": "nothing", "remedy": ""},
    ]


@pytest.mark.parametrize(
    ("observations", "status"),
    [
        ([], 0),
        ([ok("a")], 0),
        ([ok("a"), warn("b", "c"), skip("d")], 0),
        ([ok("a"), fail("b", "c"), ok("d")], 1),
    ],
)
def test_only_a_failure_shows_in_the_exit_status(
    observations: list[Observation], status: int
) -> None:
    assert exit_status([observation.of("check") for observation in observations]) == status


async def found(check: str, **settings: object) -> Finding:
    chosen = Settings.of(docker_host=NOWHERE, **settings)
    findings = await examine(chosen, [], lambda _: None)
    return next(finding for finding in findings if finding.check == check)


@pytest.mark.parametrize(
    ("uid_map", "status"),
    [
        ("0 0 4294967295", CheckStatus.WARN),  # root is root
        ("0 100000 65536", CheckStatus.OK),
        ("0 1000 1\n1 100000 65535", CheckStatus.OK),
        ("0 1000 1\n1 100000 1000", CheckStatus.WARN),
        ("", CheckStatus.OK),
    ],
)
async def test_too_few_users_for_all_containers_are_a_warning(
    uid_map: str, status: CheckStatus
) -> None:
    inside = SimpleNamespace(uid_map=tuple(uid_map.split()))
    sandbox = SimpleNamespace(inside=inside, settings=Settings.of())
    observation = await trials.user_namespace(cast("Sandbox", sandbox))
    assert observation.status is status
    if "1000\n" in f"{uid_map}\n" and status is CheckStatus.WARN:
        assert observation.finding.startswith("the engine maps 1001 users only: some of 16")
        assert "/etc/subuid" in observation.remedy


async def test_without_an_engine_everything_that_needs_it_is_skipped() -> None:
    told: list[Finding] = []
    findings = await examine(Settings.of(docker_host=NOWHERE), [], told.append)
    assert findings == told
    statuses = {finding.check: finding.status for finding in findings}
    assert statuses["engine"] is CheckStatus.FAIL
    needing = [check.name for check in OF_THE_ENGINE] + [check.name for check in OF_A_CONTAINER]
    assert {statuses[name] for name in needing} == {CheckStatus.SKIP}
    assert exit_status(findings) == 1


async def test_a_public_bind_without_keys_is_a_warning() -> None:
    assert (await found("exposure")).status is CheckStatus.WARN
    assert (await found("exposure", host="127.0.0.1")).status is CheckStatus.OK
    assert (await found("exposure", api_keys="alice:secret")).status is CheckStatus.OK


async def test_names_that_are_no_settings_are_a_warning() -> None:
    finding = await machine.settings(Machine(Settings.of(), ["PGEXEC_PROT is not"], NOWHERE))
    assert finding.status is CheckStatus.WARN


async def test_a_log_file_in_no_directory_fails(tmp_path: Path) -> None:
    assert (await found("log", log_file=str(tmp_path / "no" / "log"))).status is CheckStatus.FAIL
    assert (await found("log", log_file=str(tmp_path / "log"))).status is not CheckStatus.FAIL


async def test_a_ca_bundle_without_certificates_fails(tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.write_text("no certificate\n")
    # It had some when the settings were read.
    settings = Settings.of().model_copy(update={"ca_bundle": str(bundle)})
    finding = await machine.ca_bundle(Machine(settings, [], NOWHERE))
    assert finding.status is CheckStatus.FAIL
    assert "\n" not in finding.finding


def report(
    *, engine: str = "20.10.24", name: str = "Engine", network: str = "egress", **info: object
) -> EngineReport:
    components = [{"Name": name}, {"Name": "runc", "Version": "1.1.5+ds1"}]
    version = {"Version": engine, "Components": components}
    return EngineReport(
        Settings.of(network=network),
        "unix:///run/docker.sock",
        Version.model_validate(version),
        Info.model_validate(info),
    )


async def test_a_runc_with_open_escapes_is_a_warning_that_names_them() -> None:
    observation = await machine.runc(report())
    assert observation.status is CheckStatus.WARN
    assert all(escape in observation.finding for escape in (LEAK, *RACES))
    assert "backported" in observation.finding


@pytest.mark.parametrize(
    "version", ["19.03.15", "20.10.24+dfsg1", "20.10.26", "22.06.0-beta.0", ""]
)
async def test_an_engine_whose_networks_may_deadlock_is_a_warning(version: str) -> None:
    observation = await machine.libnetwork(report(engine=version))
    assert observation.status is CheckStatus.WARN
    assert "46661" in observation.finding
    assert (
        await machine.libnetwork(report(engine=version, network="none"))
    ).status is CheckStatus.OK


@pytest.mark.parametrize("version", ["20.10.27", "23.0.0", "v24.0.7-ce", "28.1"])
async def test_an_engine_that_has_the_fix_is_fine(version: str) -> None:
    assert (await machine.libnetwork(report(engine=version))).status is CheckStatus.OK


async def test_podman_has_networks_of_its_own() -> None:
    observation = await machine.libnetwork(report(engine="4.3.1", name="Podman Engine"))
    assert observation.status is CheckStatus.OK


async def test_a_missing_controller_fails_and_missing_swap_accounting_warns() -> None:
    every: dict[str, Any] = {
        "MemoryLimit": True,
        "PidsLimit": True,
        "CpuCfsQuota": True,
        "SwapLimit": True,
    }
    assert (await machine.cgroup(report(**every))).status is CheckStatus.OK
    assert (await machine.cgroup(report(**every | {"SwapLimit": False}))).status is CheckStatus.WARN
    assert (await machine.cgroup(report(**every | {"PidsLimit": False}))).status is CheckStatus.FAIL


async def test_a_rootless_engine_that_limits_nothing_is_told_to_use_cgroup_version_2() -> None:
    observation = await machine.cgroup(report(CgroupVersion="1"))
    assert observation.status is CheckStatus.FAIL
    assert "a rootless engine limits nothing on version 1" in observation.remedy


async def test_what_starts_containers_in_place_of_runc_is_named() -> None:
    observation = await machine.runc(replace(report(DefaultRuntime="crun"), version=Version()))
    assert observation.finding == "the engine names no runc, but crun"


async def test_containers_that_may_take_more_than_the_machine_has_are_a_warning() -> None:
    profile = {"memory_limit": "1GiB", "min_idle": 1, "max_containers": 2}
    settings = Settings.of(pool_max_containers=8, profiles=json.dumps({"large": profile}))

    def has(mebibytes: int) -> EngineReport:
        return replace(report(MemTotal=mebibytes << 20), settings=settings)

    assert (await machine.memory(has(4096))).status is CheckStatus.OK
    short = await machine.memory(has(4095))
    assert short.status is CheckStatus.WARN
    assert "4096 MiB of the machine's 4095 MiB" in short.finding
    assert (await machine.memory(has(0))).status is CheckStatus.OK


async def test_it_warns_where_the_buffers_of_sockets_are_not_counted() -> None:
    assert (await machine.sockets(report(CgroupVersion="2"))).status is CheckStatus.OK
    found = await machine.sockets(report(CgroupVersion="1"))
    assert (found.status, "UDP" in found.finding) == (CheckStatus.WARN, True)


async def test_it_compares_what_the_machine_has_once_for_all_with_the_containers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "table"
    monkeypatch.setattr(machine, "_PTY", str(table))
    monkeypatch.setattr(machine, "_NEIGHBOURS", str(table))
    assert (await machine.terminals(report())).status is CheckStatus.OK, "it cannot be known"
    table.write_text("31\n")
    for check, name in (
        (machine.terminals, "kernel.pty.max="),
        (machine.neighbours, "gc_thresh3="),
    ):
        found = await check(report())
        assert (found.status, name in found.remedy) == (CheckStatus.WARN, True)
    table.write_text(f"{1 << 20}\n")
    for check in (machine.terminals, machine.neighbours):
        assert (await check(report())).status is CheckStatus.OK


async def test_a_drain_that_is_shorter_than_a_run_is_a_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PGEXEC_DRAIN_TIMEOUT_S", "29.5")
    settings, warnings = load_settings()
    observation = await machine.settings(Machine(settings, warnings, NOWHERE))
    assert observation.status is CheckStatus.WARN
    assert "PGEXEC_DRAIN_TIMEOUT_S is 29.5, less than PGEXEC_RUN_TIMEOUT_S" in observation.finding


async def test_a_check_that_raises_fails_with_its_sentence() -> None:
    async def broken() -> tuple[Observation, None]:
        raise EngineError("the engine\nis upset")

    observation, _ = await examination._attempt(broken(), 1)
    finding = observation.of("check")
    assert (finding.status, finding.finding) == (CheckStatus.FAIL, "the engine is upset")


@pytest.mark.clock
async def test_an_image_that_takes_minutes_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow:
        url = NOWHERE

        async def version(self) -> dict[str, object]:
            return {}

        info = version

        async def image_id(self, name: str) -> str:
            return "sha256:1"

        async def foreign(self, name: str) -> str:
            return ""

        async def start(self, document: object) -> tuple[str, Any]:
            await asyncio.sleep(100)
            raise EngineError("it started at last")

    @contextlib.asynccontextmanager
    async def connected(url: str) -> AsyncIterator[Slow]:
        yield Slow()

    async def prepare_spec(engine: Slow, settings: Settings) -> ContainerSpec:
        await asyncio.sleep(500)
        return ContainerSpec("fake", prepared=True)

    # These read files in threads, for which a virtual clock does not wait.
    monkeypatch.setattr(examination, "OF_THE_MACHINE", ())
    monkeypatch.setattr(examination, "OF_THE_ENGINE", ())
    monkeypatch.setattr(examination, "_connected", connected)
    monkeypatch.setattr(examination, "prepare_spec", prepare_spec)
    assert (await found("image")).status is CheckStatus.OK
    finding = await found("container", start_timeout_s=200)
    assert finding.finding == "it started at last", "a start has the time of the settings"
    finding = await found("container", start_timeout_s=50)
    assert "PGEXEC_START_TIMEOUT_S" in finding.finding


@pytest.mark.clock
async def test_an_engine_that_is_slow_to_tell_of_itself_is_given_the_time_of_a_slow_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Slow:
        url = NOWHERE

        async def version(self) -> dict[str, object]:
            await asyncio.sleep(10)
            return {"Version": "5.4.2"}

        info = version

        async def image_id(self, name: str) -> str:
            return ""

    @contextlib.asynccontextmanager
    async def connected(url: str) -> AsyncIterator[Slow]:
        yield Slow()

    monkeypatch.setattr(examination, "OF_THE_MACHINE", ())
    monkeypatch.setattr(examination, "OF_THE_ENGINE", ())
    monkeypatch.setattr(examination, "_connected", connected)
    finding = await found("engine")
    assert "does not answer within 7.5 s" in finding.finding
    assert "PGEXEC_START_TIMEOUT_S" in finding.remedy
    finding = await found("engine", start_timeout_s=300)
    assert (finding.status, finding.finding[:5]) == (CheckStatus.OK, "5.4.2")


async def test_a_check_that_takes_too_long_fails() -> None:
    async def slow() -> tuple[Observation, None]:
        await asyncio.Event().wait()
        raise AssertionError

    observation, _ = await examination._attempt(slow(), 0.01)
    assert observation.status is CheckStatus.FAIL
    assert "0.01 s" in observation.finding


@pytest.mark.parametrize("as_json", [False, True])
def test_a_wrong_setting_is_a_finding_with_a_status_of_its_own(
    as_json: bool,  # noqa: FBT001
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PGEXEC_PORT", "eighty")
    assert main(["doctor", *(["--json"] if as_json else [])]) == 2
    printed = capsys.readouterr()
    assert printed.err == ""
    if as_json:
        (finding,) = json.loads(printed.out)
        assert (finding["check"], finding["status"]) == ("settings", "fail")
    else:
        assert printed.out.startswith("fail  settings")
        assert "PGEXEC_PORT" in printed.out
