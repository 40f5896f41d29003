"""The volume: a layer is there as a whole or not at all, and damage is noticed."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from pool.dependencies.archive import record
from pool.inside.layer_format import ABORT, CHUNK, Entry
from pool.inside.volume_server import Aborted, Depot, Parts

ABOUT = {"key": "k", "used_at": 1.0}
LAYER = (
    record(Entry.DIRECTORY, "lib")
    + record(Entry.FILE, "lib/a.py", size=7)
    + b"print()"
    + record(Entry.FILE, "tool", size=1, executable=True)
    + b"x"
    + record(Entry.LINK, "lib/b.py", target="a.py")
    + record(Entry.END, "")
)


def parts(data: bytes, *, size: int = 5, end: bytes = CHUNK.pack(0)) -> Parts:
    cut = [data[start : start + size] for start in range(0, len(data), size)]
    return Parts(io.BytesIO(b"".join(CHUNK.pack(len(one)) + one for one in cut) + end + b"rest"))


@pytest.fixture
def depot(tmp_path: Path) -> Depot:
    return Depot(str(tmp_path), "me")


def names(root: Path) -> set[str]:
    return {path.name for path in root.iterdir() if not path.name.startswith(".")}


def test_a_layer_that_is_published_is_there_with_the_modes_that_snippets_need(
    depot: Depot, tmp_path: Path
) -> None:
    size = depot.publish("one", ABOUT, parts(LAYER))
    layer = tmp_path / "one"
    assert (layer / "lib" / "b.py").read_bytes() == b"print()"
    modes = {
        name: stat.S_IMODE((layer / name).stat().st_mode) for name in (".", "lib/a.py", "tool")
    }
    assert modes == {".": 0o755, "lib/a.py": 0o644, "tool": 0o755}
    assert size > 4096
    assert depot.load() == [{**ABOUT, "name": "one", "bytes": size}]
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o711


@pytest.mark.parametrize(
    ("broken", "error"),
    [
        (lambda: parts(LAYER[:-20], end=CHUNK.pack(ABORT)), Aborted),
        (lambda: parts(LAYER[:-20]), EOFError),
        (lambda: parts(LAYER[:20], end=b""), EOFError),
    ],
)
def test_a_layer_that_does_not_arrive_leaves_nothing(
    depot: Depot, tmp_path: Path, broken: Any, error: type[Exception]
) -> None:
    with pytest.raises(error):
        depot.publish("one", ABOUT, broken())
    assert names(tmp_path) == set()
    assert depot.load() == []
    assert list(Path(depot.unfinished).iterdir()) == []


def test_what_follows_a_layer_is_the_next_request(depot: Depot) -> None:
    whole, late, long = parts(LAYER), parts(LAYER, end=CHUNK.pack(ABORT)), parts(LAYER + b"more")
    depot.publish("whole", ABOUT, whole)
    with pytest.raises(Aborted):
        depot.publish("late", ABOUT, late)
    with pytest.raises(ValueError, match="follows the end"):
        depot.publish("long", ABOUT, long)
    for one in (whole, late, long):
        one.drain()
        assert one._source.read() == b"rest"
    assert [layer["name"] for layer in depot.load()] == ["whole"]


def edit(path: Path) -> None:
    path.write_bytes(b"evil()!")


@pytest.mark.parametrize(
    "damage",
    [
        lambda layer: (layer / "lib" / "a.py").unlink(),
        lambda layer: os.truncate(layer / "lib" / "a.py", 3),
        lambda layer: edit(layer / "lib" / "a.py"),
        lambda layer: (layer / "lib" / "new.py").touch(),
        lambda layer: (layer / "tool").chmod(0o600),
        lambda layer: ((layer / "lib/b.py").unlink(), (layer / "lib/b.py").symlink_to("/etc")),
        lambda layer: layer.rename(layer.with_name("elsewhere")),
    ],
)
def test_damage_is_noticed_and_the_layer_given_up(
    depot: Depot, tmp_path: Path, damage: Any
) -> None:
    depot.publish("one", ABOUT, parts(LAYER))
    assert depot.check("one")
    damage(tmp_path / "one")
    assert not depot.check("one")
    assert depot.load() == []
    assert "one" not in names(tmp_path)


def test_files_that_were_only_touched_are_read_and_found_the_same(
    depot: Depot, tmp_path: Path
) -> None:
    depot.publish("one", ABOUT, parts(LAYER))
    os.utime(tmp_path / "one" / "lib" / "a.py", (1, 1))
    assert depot.check("one")
    assert depot.check("one")


def test_when_a_layer_was_used_is_remembered(depot: Depot) -> None:
    depot.publish("one", ABOUT, parts(LAYER))
    depot.note_use({"one": 7.5, "unknown": 1.0})
    assert depot.load()[0]["used_at"] == 7.5


def test_a_server_takes_over_from_the_dead_and_not_from_the_living(
    depot: Depot, tmp_path: Path
) -> None:
    depot.publish("one", ABOUT, parts(LAYER))
    other = Depot(str(tmp_path), "other")
    assert other.load() == []
    os.close(depot.lock)  # as its end does
    heir = Depot(str(tmp_path), "heir")
    assert [layer["name"] for layer in heir.load()] == ["one"]
    assert other.load() == []


def test_what_a_dead_server_did_not_finish_goes(depot: Depot, tmp_path: Path) -> None:
    (Path(depot.unfinished) / "half").mkdir()
    os.close(depot.lock)
    Depot(str(tmp_path), "heir")
    assert {path.name for path in (tmp_path / ".owners").iterdir()} == {"heir"}


def test_a_removed_layer_is_gone(depot: Depot, tmp_path: Path) -> None:
    depot.publish("one", ABOUT, parts(LAYER))
    depot.remove("one")
    depot.remove("one")
    assert names(tmp_path) == set()
    assert depot.load() == []
