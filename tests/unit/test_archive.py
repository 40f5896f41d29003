"""What an installer sends: only what stays within the layer is passed on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool.dependencies.archive import ArchiveError, Bounds, Inspector, record
from pool.inside.layer_format import RECORD_HEAD, Entry

ROOT = "/opt/layers/secret"
END = record(Entry.END, "")


def inspect(data: bytes, *, cut: int = 1 << 20, limit: int = 1 << 20, entries: int = 100) -> bytes:
    inspector = Inspector(ROOT, Bounds(limit, entries))
    out = b"".join(
        part
        for start in range(0, len(data), cut)
        for part in inspector.feed(data[start : start + cut])
    )
    assert inspector.complete
    return out


def file(path: str, content: bytes = b"", *, executable: bool = False) -> bytes:
    return record(Entry.FILE, path, size=len(content), executable=executable) + content


def directory(path: str) -> bytes:
    return record(Entry.DIRECTORY, path)


def link(path: str, target: str) -> bytes:
    return record(Entry.LINK, path, target=target)


@pytest.mark.parametrize("cut", [1, 7, 1000])
def test_a_layer_is_passed_on_however_it_is_cut(cut: int) -> None:
    sound = directory("lib") + file("lib/a.py", b"print()") + file("run", b"x", executable=True)
    sound += link("lib/b.py", "a.py") + link("lib/up", "../run") + END
    assert inspect(sound, cut=cut) == sound


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "../up", "lib/../../up", ".", "..", "", "a//b", "lib/", "a\0b", "x" * 256],
)
def test_a_path_that_is_absolute_or_climbs_is_refused(path: str) -> None:
    with pytest.raises(ArchiveError):
        inspect(directory("lib") + file(path) + END)


def test_a_path_in_what_is_no_directory_of_the_layer_is_refused() -> None:
    for before in (b"", file("lib"), link("lib", "."), link("lib", "other")):
        with pytest.raises(ArchiveError, match="in no directory"):
            inspect(before + file("lib/a") + END)


def test_a_path_that_comes_twice_is_refused() -> None:
    for first in (file("a"), directory("a"), link("a", "b")):
        with pytest.raises(ArchiveError, match="twice"):
            inspect(first + file("a") + END)


@pytest.mark.parametrize(
    "target",
    [
        *("/etc/passwd", "/", "..", "../..", "../../x", "a/../../..", "b/..", "", "/opt/layers"),
        *("/opt/layers/other/x", "/opt/layers/secret/../other", "a\0b", "./../.."),
    ],
)
def test_a_link_that_leads_out_is_refused(target: str) -> None:
    with pytest.raises(ArchiveError):
        inspect(directory("lib") + link("lib/b", "up") + link("x", target) + END)


def test_a_link_through_another_cannot_lead_out_either() -> None:
    with pytest.raises(ArchiveError, match="leads out"):
        inspect(directory("a") + link("a/b", "../c") + link("a/x", "b/../..") + END)


def test_an_absolute_link_into_the_layer_becomes_a_relative_one() -> None:
    given = directory("lib") + link("lib/x", f"{ROOT}/bin/tool") + END
    assert inspect(given) == directory("lib") + link("lib/x", "../bin/tool") + END


@pytest.mark.parametrize("kind", [4, 9, 255])
def test_devices_and_whatever_else_there_is_are_refused(kind: int) -> None:
    with pytest.raises(ArchiveError, match="neither a file"):
        inspect(RECORD_HEAD.pack(kind, 0, 1, 0, 0) + b"x" + END)


def test_more_than_the_bounds_allow_is_refused_before_it_has_come() -> None:
    with pytest.raises(ArchiveError, match="over 1 MiB"):
        inspect(record(Entry.FILE, "a", size=(1 << 20) + 1), limit=1 << 20)
    with pytest.raises(ArchiveError, match="over 2 entries"):
        inspect(b"".join(file(name) for name in "abc"), entries=2)
    with pytest.raises(ArchiveError, match="too long"):
        inspect(RECORD_HEAD.pack(1, 0, 5000, 0, 0))
    with pytest.raises(ArchiveError, match="content without"):
        inspect(RECORD_HEAD.pack(2, 0, 1, 0, 5) + b"x")


def test_a_thousand_empty_files_take_a_block_and_an_inode_each_and_more_is_refused() -> None:
    files = b"".join(file(f"f{number}") for number in range(1000)) + END
    assert len(inspect(files, limit=6 << 20, entries=1000)) > 0
    with pytest.raises(ArchiveError, match="over 4 MiB"):
        inspect(files, limit=4 << 20, entries=1000)


@pytest.mark.parametrize("letter", ["x", "ä", "漢", "😀"])
def test_names_are_bounded_in_bytes_together(letter: str) -> None:
    name = letter * (240 // len(letter.encode()))
    entries = b"".join(
        (link(f"{number:05}", name), file(f"{number:05}{name}"))[number % 2]
        for number in range(1000)
    )
    inspector = Inspector(ROOT, Bounds(1 << 30, limit_names_bytes=1 << 17))
    with pytest.raises(ArchiveError, match="of names"):
        list(inspector.feed(entries))


def test_nothing_may_follow_the_end() -> None:
    with pytest.raises(ArchiveError, match="follows the end"):
        inspect(END + b"x")


@given(st.binary(max_size=200), st.integers(1, 50))
def test_any_bytes_are_refused_or_passed_on_and_never_anything_else(data: bytes, cut: int) -> None:
    inspector = Inspector(ROOT, Bounds(1000))
    out = b""
    try:
        for start in range(0, len(data), cut):
            out += b"".join(inspector.feed(data[start : start + cut]))
    except ArchiveError:
        return
    assert len(out) <= len(data)
