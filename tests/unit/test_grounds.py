"""The table of docs/engines.md, from what the checks of a ground print."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.grounds import battery, table

if TYPE_CHECKING:
    import pytest

DOCTOR = """\
ok    engine           28.5.2, API 1.51
warn  exposure         anyone may run code here; remedy: set PGEXEC_API_KEYS
fail  memory limit     twice the limit was to be had; remedy: enable the memory controller
"""
PYTEST = """\
....F.E
E       assert 3 failed
FAILED tests/abuse/test_limits.py::test_a_bomb[a fork - bomb] - AssertionError: no
ERROR tests/abuse/test_limits.py::test_other - OSError
======= 1 failed, 5 passed, 3 deselected, 1 error in 7.00s =======
Unclosed client session
"""
DOCKER = {"Version": "28.5.2+dfsg4", "Components": [{"Name": "crun", "Version": "1.28"}]}
PODMAN = {
    "Version": "5.8.6",
    "Components": [
        {"Name": "Podman Engine", "Version": "5.8.6"},
        {"Name": "OCI Runtime (crun)", "Version": "crun version 1.28\ncommit: 1"},
    ],
}
INFO = {"DefaultRuntime": "crun", "Driver": "overlay2", "CgroupVersion": "1"}


def test_each_check_is_told_in_one_cell_and_what_failed_by_its_name() -> None:
    assert table.read("doctor", DOCTOR) == ("1 ok, 1 warn, 1 fail", ["memory limit"])
    found = "ok   hello\nFAIL memory: {'status': 'ok'} None\n"
    assert table.read("battery", found) == ("1 of 2", ["memory"])
    found = (
        "  warm exec / run, p50: 21.6, wanted at least 20: met\n  classic / run, p50: 1.5e+02, w"
    )
    assert table.read("latency", found)[0] == "22 x warm exec, 150 x classic"
    assert table.read("latency", "bench: no figures")[0] == "not measured"
    assert table.read("limits", PYTEST) == ("5 of 7", ["test_a_bomb[a fork - bomb]", "test_other"])


def test_what_was_not_run_or_came_to_nothing_does_not_look_right() -> None:
    assert table.read("escape", "") == ("not tried", [])
    assert table.read("battery", "not ready: no container\n") == ("not ready", [])
    assert table.read("escape", "no tests ran in 0.1s\n") == ("0 of 0", [])


def test_an_engine_is_named_with_what_starts_its_containers() -> None:
    assert table.engine(DOCKER, INFO) == "Docker 28.5.2, crun 1.28, overlay2, cgroup v1"
    confined = INFO | {"CgroupVersion": "2", "SecurityOptions": ["name=apparmor", "name=seccomp"]}
    named = "Docker 28.5.2, crun 1.28, overlay2, cgroup v2, AppArmor"
    assert table.engine(DOCKER, confined) == named
    assert table.engine(PODMAN, INFO) == "Podman 5.8.6, crun 1.28, overlay2, cgroup v1"


def test_a_ground_renews_its_own_row_and_item_alone() -> None:
    document = f"before\n{table.BEGIN}{table.END}after\n"
    document = table.renew(document, "podman", ["podman", "Podman 5"], "doctor: `masks`")
    document = table.renew(document, "docker", ["docker", "Docker 28"], "limits: " + "`x y`, " * 40)
    both = document
    document = table.renew(document, "docker", ["docker", "Docker 29"], "")
    assert document == both[: both.index("| docker")] + (
        "| docker | Docker 29 |\n| podman | Podman 5 |\n\n"
        "What failed there, by the checks' and tests' own names:\n\n"
        "- **podman**: doctor: `masks`\n\n"
        f"{table.END}after\n"
    )
    assert max(map(len, both.splitlines())) <= table.WIDTH
    assert table.renew(both, "podman", ["podman", "Podman 5"], "doctor: `masks`") == both


def test_a_part_of_the_checks_leaves_what_the_others_have_found() -> None:
    document = f"before\n{table.BEGIN}{table.END}after\n"
    fails = {"battery": ["memory"], "limits": ["test_a[x - y]", "test_b"]}
    row = ["gvisor", "Docker 26", "27 ok", "24 of 26", *["not tried"] * 4, "2026-11-28"]
    document = table.renew(document, "gvisor", row, table.item(fails, "of tests, some"))
    cells, found = table.known(document, "gvisor")
    assert list(cells.values()) == row[2:-1]
    assert {check: names for check, names in found.items() if names} == fails
    assert set(table.known(document, "podman")[0].values()) == {"not tried"}


def test_what_a_run_may_answer_in_gvisor_is_right_there_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = battery.Run("one", "code", {"status": "ok"}, in_gvisor=({"status": "memory_limit"},))
    starved = {"status": "memory_limit", "error": "out of memory"}
    monkeypatch.delenv("PGEXEC_RUNTIME", raising=False)
    assert run.wrong(starved) == {"status": "memory_limit"}
    monkeypatch.setenv("PGEXEC_RUNTIME", "runsc")
    assert run.wrong(starved) == run.wrong({"status": "ok"}) == {}
    assert run.wrong({"status": "error"}) == {"status": "error"}
