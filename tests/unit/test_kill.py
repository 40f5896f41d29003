"""The kills of process 1 where a security module refuses some: crun's label under AppArmor."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pool.inside import reset
from pool.inside.child import Child
from pool.inside.runner import Runner


class Refusing:
    """Stands for `os.kill`, and refuses the processes in `refused`; not signal 0, as AppArmor."""

    def __init__(self, refused: set[int]) -> None:
        self.refused = refused
        self.killed: list[int] = []

    def __call__(self, pid: int, number: int) -> None:
        if number and pid in self.refused:
            raise PermissionError(13, "Permission denied")
        self.killed.append(pid)


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> None:
    found = ["1", "7", "8", "9", "self", "sys"]
    monkeypatch.setattr("os.listdir", lambda path: found if path == "/proc" else [])


@pytest.mark.usefixtures("processes")
def test_what_may_not_be_killed_at_once_is_killed_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kill = Refusing({-1, 8})
    monkeypatch.setattr("os.kill", kill)
    reset.kill_all()
    assert kill.killed == [7, 9]


@pytest.mark.usefixtures("processes")
def test_one_kill_is_enough_where_it_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    kill = Refusing(set())
    monkeypatch.setattr("os.kill", kill)
    reset.kill_all()
    assert kill.killed == [-1]


@pytest.mark.parametrize("refused", [False, True])
def test_a_container_whose_runs_could_not_be_ended_is_refused_before_the_first(
    monkeypatch: pytest.MonkeyPatch, *, refused: bool
) -> None:
    said: list[str] = []
    child = Child()
    child.pid = 7
    monkeypatch.setattr("os.kill", Refusing({7} if refused else set()))
    Runner.see_killable(cast("Any", SimpleNamespace(child=child, refuse=said.append)))
    child.close()
    for fd in (child.job_r, child.stdin_r, child.stdout_w, child.stderr_w):
        os.close(fd)
    assert [one.partition(", ")[0] for one in said] == [
        "process 1 may not signal its own children"
    ] * refused
