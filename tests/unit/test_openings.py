"""The places where every user may write beyond the mounts that are wiped after each run."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pool.inside import openings

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def mounts(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    found: dict[str, str] = {}
    monkeypatch.setattr(openings, "_mounts", lambda: found)
    return found


def open_directory(path: Path) -> str:
    path.mkdir(parents=True)
    path.chmod(0o1777)
    return str(path)


def test_a_directory_and_a_file_for_all_are_found_wherever_they_lie(
    tmp_path: Path, mounts: dict[str, str]
) -> None:
    mounts[str(tmp_path)] = "overlay"
    deep = open_directory(tmp_path / "some/where")
    (tmp_path / "file").touch()
    (tmp_path / "file").chmod(0o666)
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "closed").touch()
    assert openings.close_openings([]) == [str(tmp_path / "file"), deep]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["closed", "file", "link", "some"]


def test_a_tmpfs_of_the_engines_is_closed(tmp_path: Path, mounts: dict[str, str]) -> None:
    place = tmp_path / "cgroup"
    mounts[open_directory(place)] = "tmpfs"
    assert openings.close_openings([]) == []
    assert place.stat().st_mode & 0o7777 == 0o755


def test_what_masks_a_file_keeps_its_mode(tmp_path: Path, mounts: dict[str, str]) -> None:
    """It is `/dev/null` of the container's `/dev`: closed, it would be so for every snippet."""
    null = tmp_path / "null"
    os.mkfifo(null)
    null.chmod(0o666)
    mounts[str(null)] = "tmpfs"
    assert openings.close_openings([]) == []
    assert null.stat().st_mode & 0o7777 == 0o666


def test_what_is_wiped_anyhow_and_what_holds_no_files_is_passed_over(
    tmp_path: Path, mounts: dict[str, str]
) -> None:
    wiped = open_directory(tmp_path / "tmp")
    mounts |= {str(tmp_path): "overlay", wiped: "tmpfs", open_directory(tmp_path / "proc"): "proc"}
    assert openings.close_openings([wiped]) == []
    assert (tmp_path / "tmp").stat().st_mode & 0o7777 == 0o1777


def test_a_place_that_takes_no_file_is_none(
    tmp_path: Path, mounts: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read-only root that is not told as such, a mount of message queues without any."""

    def refuse(*_: object) -> int:
        raise OSError(30, "Read-only file system")

    mounts[open_directory(tmp_path / "mqueue")] = "mqueue"
    monkeypatch.setattr("os.open", refuse)
    assert openings.close_openings([]) == []


def test_mounts_are_read_from_the_kernel() -> None:
    assert openings._mounts()["/proc"] == "proc"
