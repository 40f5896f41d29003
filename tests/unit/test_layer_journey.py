"""A layer's way from its installer to the volume, with the three programs that make it."""

from __future__ import annotations

import json
import marshal
import os
import stat
import subprocess
import sys
import time
import zipfile
from importlib.util import MAGIC_NUMBER
from typing import TYPE_CHECKING

import pytest

from pool.dependencies.archive import ArchiveError, Bounds, Inspector
from pool.engine.sources import program
from pool.inside.layer_format import CHUNK

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Make a directory such as pip leaves: nested, with a script, links and odd names."""
    base = tmp_path / "base"
    (base / "lib" / "package" / "empty").mkdir(parents=True)
    (base / "lib" / "package" / "__init__.py").write_bytes(b"word = 'here'\n" * 30_000)
    (base / "lib" / "package" / "nothing").touch()
    (base / "lib" / "päckage.py").write_text("ä")
    (base / "bin").mkdir()
    (base / "bin" / "tool").write_bytes(b"#!/bin/sh\n")
    (base / "bin" / "tool").chmod(0o700)
    (base / "lib64").symlink_to("lib")
    (base / "bin" / "absolute").symlink_to(base / "lib" / "package")
    return base


def send(base: Path, limit_bytes: int = 1 << 20) -> bytes:
    work = {"do": "send", "base": str(base), "limit_bytes": limit_bytes, "ready": "/"}
    sender = [sys.executable, "-IS", "-c", program("pip_install"), json.dumps(work)]
    return subprocess.run(sender, stdout=subprocess.PIPE, check=True).stdout


def inspect(sent: bytes, base: Path) -> bytes:
    inspector = Inspector(str(base), Bounds(limit_bytes=1 << 20))
    cuts = [sent[start : start + 1000] for start in range(0, len(sent), 1000)]
    checked = b"".join(part for cut in cuts for part in inspector.feed(cut))
    assert inspector.complete
    return checked


def store(checked: bytes, volume: Path) -> dict[str, object]:
    publish = {"do": "publish", "name": "one", "about": {"key": "k"}}
    parts = [checked[start : start + 5000] for start in range(0, len(checked), 5000)]
    told = subprocess.run(
        [sys.executable, "-IS", "-c", program("volume_server"), str(volume), "me"],
        input=json.dumps(publish).encode()
        + b"\n"
        + b"".join(CHUNK.pack(len(part)) + part for part in parts)
        + CHUNK.pack(0)
        + json.dumps({"do": "check", "name": "one"}).encode()
        + b"\n",
        stdout=subprocess.PIPE,
        check=True,
    )
    published, checked_again = map(json.loads, told.stdout.splitlines())
    assert checked_again == {"sound": True}
    answer: dict[str, object] = published
    return answer


def tree(root: Path) -> dict[str, object]:
    """Return what each path below a directory is: its content, or the target of a link."""
    found: dict[str, object] = {}
    for path in root.rglob("*"):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = str(path.readlink())
        elif path.is_dir():
            found[name] = None
        else:
            found[name] = path.read_bytes(), bool(stat.S_IMODE(path.stat().st_mode) & 0o100)
    return found


def test_what_an_installer_made_lies_on_the_volume_as_it_was(base: Path, tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    answer = store(inspect(send(base), base), volume)
    assert isinstance(answer["bytes"], int)
    assert answer["bytes"] > 400_000
    expected = tree(base) | {"bin/absolute": "../lib/package"}  # as it must lead there, too
    assert tree(volume / "one") == expected


def test_what_can_be_compiled_is_sent_with_bytecode_that_needs_no_look_at_its_source(
    base: Path,
) -> None:
    (base / "lib" / "package" / "tests").mkdir()
    (base / "lib" / "package" / "tests" / "test_it.py").write_text("assert True\n")
    (base / "lib" / "broken.py").write_text("def f(:\n")
    (base / "lib" / "nested.py").write_text("(" * 50_000 + ")" * 50_000)
    (base / "lib" / "linked.py").symlink_to("/etc/passwd")
    sent = send(base)
    compiled = {str(path.relative_to(base)): path for path in base.rglob("*.pyc")}
    tag = sys.implementation.cache_tag
    assert set(compiled) == {
        f"lib/__pycache__/päckage.{tag}.pyc",
        f"lib/package/__pycache__/__init__.{tag}.pyc",
    }
    for path in compiled.values():
        head = path.read_bytes()[:8]
        assert head == MAGIC_NUMBER + b"\x01\0\0\0"
        assert path.name.encode() in sent
    assert not list(base.rglob("*.new"))


def test_what_is_not_compiled_in_time_is_sent_as_it_is(base: Path) -> None:
    late = program("pip_install").replace("BUDGET_S = 30.0", "BUDGET_S = -1.0")
    assert late != program("pip_install")
    (base / "lib" / "slow.py").write_text("x = [" + "1," * 1_000_000 + "]\n")
    work = {"do": "send", "base": str(base), "limit_bytes": 1 << 30, "ready": "/"}
    sender = [sys.executable, "-IS", "-c", late, json.dumps(work)]
    sent = subprocess.run(sender, stdout=subprocess.PIPE, check=True, timeout=60).stdout
    assert b"lib/slow.py" in sent
    assert b"slow.cpython" not in sent


@pytest.mark.slow
def test_a_source_that_takes_too_much_to_compile_is_sent_as_it_is_and_the_others_compiled(
    base: Path,
) -> None:
    (base / "lib" / "large.py").write_text("x = [" + "1," * 4_000_000 + "]\n")
    (base / "lib" / "warns.py").write_text("x = ['\\d']\n" * 1000)
    work = {"do": "send", "base": str(base), "limit_bytes": 1 << 30, "ready": "/"}
    sender = [sys.executable, "-IS", "-c", program("pip_install"), json.dumps(work)]
    sent = subprocess.run(sender, capture_output=True, check=True, timeout=60)
    assert b"lib/large.py" in sent.stdout
    assert b"large.cpython" not in sent.stdout
    assert b"warns.cpython" in sent.stdout
    assert sent.stderr == b""


@pytest.mark.parametrize("later", ["bytecode = _bytecode(source, path)", "raise ValueError"])
@pytest.mark.slow
def test_what_a_wheel_holds_is_compiled_while_pip_works_and_used_only_for_the_same_source(
    base: Path, tmp_path: Path, later: str
) -> None:
    unpacked, ready = tmp_path / "tmp" / "pip-unpack-x", tmp_path / "tmp" / "ready"
    unpacked.mkdir(parents=True)
    site = base / "lib/python{}.{}/site-packages".format(*sys.version_info[:2])
    site.mkdir(parents=True)
    (unpacked / "half.whl").write_bytes(b"PK")
    with zipfile.ZipFile(unpacked / "x-1-py3-none-any.whl", "w") as wheel:
        for name in ("same", "other", "tests/it"):
            wheel.writestr(f"{name}.py", "x = 1")
    ahead = "self._ahead[path] = _bytecode(archive.read(member), path)"
    done = f"{ahead}; os.mkdir(self._ready + os.path.basename(path))"
    text = program("pip_install").replace("bytecode = _bytecode(source, path)", later)
    assert ahead in text
    text = text.replace(ahead, done)
    work = {"do": "send", "base": str(base), "limit_bytes": 1 << 30, "ready": str(ready)}
    sender = [sys.executable, "-IS", "-c", text, json.dumps(work)]
    environment = {**os.environ, "TMPDIR": str(tmp_path / "tmp")}
    with subprocess.Popen(sender, stdout=subprocess.PIPE, env=environment) as sending:
        until = time.monotonic() + 60
        while not all((tmp_path / f"tmp/ready{name}.py").exists() for name in ("same", "other")):
            assert time.monotonic() < until
            time.sleep(0.01)
        (site / "same.py").write_text("x = 1")
        (site / "other.py").write_text("x = 2")
        ready.touch()
        sent, _ = sending.communicate(timeout=60)
    assert b"same.cpython" in sent
    assert (b"other.cpython" in sent) == ("raise" not in later)
    for cache in site.rglob("*.pyc"):
        found: dict[str, int] = {}
        exec(marshal.loads(cache.read_bytes()[16:]), found)
        assert found["x"] == (1 if cache.name.startswith("same") else 2)


def test_bytecode_that_would_be_over_the_limit_is_left_out(base: Path) -> None:
    (base / "lib" / "package" / "__pycache__").mkdir()
    (base / "lib" / "package" / "__pycache__" / "killed.cpython-313.pyc.new").write_bytes(b"x")
    whole = inspect(send(base), base)
    assert b"/__pycache__/__init__." in whole
    assert b".pyc.new" not in whole
    half = inspect(send(base, 450_000), base)
    assert b"lib/package/__init__.py" in half
    assert b"/package/__pycache__" not in half


def test_bytecode_that_a_wheel_brings_along_is_sent_too(base: Path) -> None:
    brought = base / "lib" / "package" / "tests" / "__pycache__"
    brought.mkdir(parents=True)
    (brought / "old.pyc").write_bytes(b"x")
    (base / "lib" / "package" / "empty" / "__pycache__").symlink_to("..")
    checked = inspect(send(base), base)
    assert b"lib/package/tests/__pycache__/old.pyc" in checked
    assert b"lib/package/empty/__pycache__" in checked


def test_what_is_no_file_is_sent_as_such_and_refused(base: Path) -> None:
    os.mkfifo(base / "pipe")
    with pytest.raises(ArchiveError, match="'pipe' is neither a file"):
        inspect(send(base), base)
