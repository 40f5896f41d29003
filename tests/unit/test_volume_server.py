"""The volume: a layer is there as a whole or not at all, and damage is noticed."""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pool.dependencies.archive import record
from pool.engine.sources import program
from pool.inside import volume_server
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


def load(depot: Depot) -> list[dict[str, Any]]:
    return [known for name in depot.names() if (known := depot.load(name)) is not None]


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
    assert load(depot) == [{**ABOUT, "name": "one", "bytes": size}]
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
    assert load(depot) == []
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
    assert [layer["name"] for layer in load(depot)] == ["whole"]


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
    assert load(depot) == []
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
    assert load(depot)[0]["used_at"] == 7.5


def test_a_server_takes_over_from_the_dead_and_not_from_the_living(
    depot: Depot, tmp_path: Path
) -> None:
    depot.publish("one", ABOUT, parts(LAYER))
    other = Depot(str(tmp_path), "other")
    assert load(other) == []
    os.close(depot.lock)  # as its end does
    heir = Depot(str(tmp_path), "heir")
    assert [layer["name"] for layer in load(heir)] == ["one"]
    assert load(other) == []


def test_what_a_dead_server_did_not_finish_goes(depot: Depot, tmp_path: Path) -> None:
    (Path(depot.unfinished) / "half").mkdir()
    os.close(depot.lock)
    Depot(str(tmp_path), "heir")
    assert {path.name for path in (tmp_path / ".owners").iterdir()} == {"heir"}


def old_form(depot: Depot, root: Path, name: str) -> dict[str, Any]:
    """Put what is known of a layer as servers did that had all of it in one document."""
    entries: dict[str, Any] = {}
    for path in (root / name).rglob("*"):
        about = path.lstat()
        state = [about.st_size, about.st_mode, about.st_mtime_ns, about.st_ctime_ns]
        if path.is_symlink():
            digest = str(path.readlink())
        else:
            digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        entries[str(path.relative_to(root / name))] = [*state, digest]
    known = {"about": ABOUT, "bytes": 1, "entries": entries}
    (Path(depot.home) / f"{name}.json").write_text(json.dumps(known))
    (Path(depot.home) / f"{name}.entries").unlink()
    return known


def test_what_an_earlier_server_left_goes_on_to_be_used(depot: Depot, tmp_path: Path) -> None:
    size = depot.publish("one", ABOUT, parts(LAYER))
    old_form(depot, tmp_path, "one")
    for _ in range(2):
        assert load(depot) == [{**ABOUT, "name": "one", "bytes": size}]
    edit(tmp_path / "one" / "lib" / "a.py")
    assert load(depot) == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda layer: edit(layer / "lib" / "a.py"),
        lambda layer: (layer / "lib" / "a.py").unlink(),
        lambda layer: (layer / "lib" / "new.py").touch(),
        lambda layer: ((layer / "lib/b.py").unlink(), (layer / "lib/b.py").symlink_to("/etc")),
    ],
)
def test_damage_of_what_an_earlier_server_left_is_noticed(
    depot: Depot, tmp_path: Path, damage: Any
) -> None:
    depot.publish("one", ABOUT, parts(LAYER))
    old_form(depot, tmp_path, "one")
    damage(tmp_path / "one")
    assert load(depot) == []
    assert names(tmp_path) == set()


def test_a_document_of_an_earlier_server_that_is_too_large_is_not_read(
    depot: Depot, tmp_path: Path
) -> None:
    depot.publish("one", ABOUT, parts(LAYER))
    depot.publish("two", ABOUT, parts(LAYER))
    old_form(depot, tmp_path, "one")
    os.truncate(Path(depot.home) / "one.json", 300 << 20)
    assert [layer["name"] for layer in load(depot)] == ["two"]
    assert names(tmp_path) == {"two"}


def test_what_went_from_one_directory_to_the_next_is_noticed(depot: Depot, tmp_path: Path) -> None:
    depot.publish(
        "one",
        ABOUT,
        parts(
            record(Entry.DIRECTORY, "a")
            + record(Entry.DIRECTORY, "b")
            + record(Entry.FILE, "b/x")
            + record(Entry.FILE, "b/y")
            + record(Entry.END, "")
        ),
    )
    assert depot.check("one")
    (tmp_path / "one" / "b" / "y").rename(tmp_path / "one" / "a" / "y")
    assert not depot.check("one")


@pytest.mark.slow
@pytest.mark.parametrize("letter", ["x", "漢", "😀"])
def test_a_layer_of_many_long_names_is_refused_while_it_comes(
    depot: Depot, tmp_path: Path, letter: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(volume_server, "MAX_NAMES_BYTES", 1 << 20)
    name = letter * (248 // len(letter.encode()))
    many = b"".join(record(Entry.FILE, f"{number:05}{name}") for number in range(5000))
    with pytest.raises(ValueError, match="too long names"):
        depot.publish("one", ABOUT, parts(many, size=1 << 20))
    assert names(tmp_path) == set()


@pytest.mark.slow
def test_the_most_that_a_layer_may_have_is_taken_within_the_memory_that_there_is(
    tmp_path: Path,
) -> None:
    entries = [record(Entry.FILE, f"{number:05}" + "漢" * 50) for number in range(90_000)]
    layer = b"".join(entries) + record(Entry.END, "")
    requests: list[dict[str, Any]] = [
        {"do": "publish", "name": "one", "about": ABOUT},
        {"do": "names"},
        {"do": "load", "name": "one"},
        {"do": "check", "name": "one"},
    ]
    lines = [json.dumps(request).encode() + b"\n" for request in requests]
    lines[0] += CHUNK.pack(len(layer)) + layer + CHUNK.pack(0)
    command = [sys.executable, "-IS", "-c", program("volume_server"), str(tmp_path), "me"]
    told = subprocess.run(command, input=b"".join(lines), stdout=subprocess.PIPE, check=True)
    published, named, loaded, checked = map(json.loads, told.stdout.splitlines())
    assert published["bytes"] > 90_000 * 4096
    assert named == {"names": ["one"]}
    assert loaded["layer"]["bytes"] == published["bytes"]
    assert checked == {"sound": True}


def test_the_end_of_memory_costs_one_layer_and_not_the_server(tmp_path: Path) -> None:
    requests: list[dict[str, Any]] = [
        {"do": "names"},
        {"do": "check", "name": "one"},
        {"do": "names"},
    ]
    starved = "import json\ndef load(file): return bytearray(1 << 30)\njson.load = load\n"
    home = tmp_path / ".owners" / "me"
    home.mkdir(parents=True)
    (home / "one.json").write_text("{}")
    told = subprocess.run(
        [*(sys.executable, "-IS", "-c", starved + program("volume_server")), str(tmp_path), "me"],
        input=b"".join(json.dumps(request).encode() + b"\n" for request in requests),
        stdout=subprocess.PIPE,
        check=True,
    )
    answers = [json.loads(line) for line in told.stdout.splitlines()]
    assert answers == [{"names": ["one"]}, {"sound": False}, {"names": ["one"]}]


def test_a_removed_layer_is_gone(depot: Depot, tmp_path: Path) -> None:
    depot.publish("one", ABOUT, parts(LAYER))
    depot.remove("one")
    depot.remove("one")
    assert names(tmp_path) == set()
    assert load(depot) == []
