"""How the sources of what runs inside get there, and what an image is known by."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, cast

from pool.engine import image, sources
from pool.engine.sources import bootstrap_command, runner_files, source
from pool.engine.spec import RUNNER_DIR, ContainerSpec, create_document

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from pool.engine.docker import DockerEngine

LINUX_ARGUMENT_BYTES = 128 << 10
PAGE_BYTES = 1 << 16  # the largest of 64-bit Arm


def test_the_bootstrap_writes_every_file_and_becomes_the_script(tmp_path: Path) -> None:
    script = tmp_path / "Main.py"
    script.write_text("import sys; print(sys.argv, open(sys.argv[0] + '.ran', 'w').name)")
    files = {"a/b/c.py": "print('ä\\n')\n\n", "a/__init__.py": ""}
    arguments = [str(part) for name, text in files.items() for part in (tmp_path / name, text)]
    told = subprocess.run(
        [sys.executable, "-c", source("bootstrap"), str(script), *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout == f"['{script}'] {script}.ran\n"
    assert {name: (tmp_path / name).read_text(encoding="utf-8") for name in files} == files


def test_the_command_that_carries_the_runner_fits_what_linux_takes() -> None:
    command = bootstrap_command("/home/code/Main.py")
    assert command[4:] == [part for file in runner_files().items() for part in file]
    assert max(len(part.encode()) for part in command) < LINUX_ARGUMENT_BYTES


def test_the_runner_and_its_bytecode_fit_into_the_tmpfs_of_an_unprepared_image() -> None:
    document: Any = create_document(ContainerSpec("image", prepared=False), labels={}, sequence=1)
    options = document["HostConfig"]["Tmpfs"][RUNNER_DIR].split(",")
    limits = dict(option.split("=") for option in options if "=" in option)
    files = {PurePosixPath(path): len(text.encode()) for path, text in runner_files().items()}
    directories = {
        parent for path in files for parent in path.parents if parent.is_relative_to(RUNNER_DIR)
    }
    # With bytecode, each file counts twice, and each directory has a `__pycache__`.
    assert 2 * (len(files) + len(directories)) <= int(limits["nr_inodes"])
    pages = sum(-(-size // PAGE_BYTES) for size in files.values())
    assert limits["size"] == "8m"
    assert 2 * pages * PAGE_BYTES <= 8 << 20


async def test_the_prepared_image_is_another_one_as_soon_as_any_file_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Engine:
        async def image_id(self, name: str) -> str:
            return f"id of {name}"

    async def name() -> str:
        engine = cast("DockerEngine", Engine())
        return (await image.prepare(engine, "base", directories=("/home",))).name

    room = tmp_path / "inside"
    shutil.copytree(str(sources._ROOM), room, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(sources, "_ROOM", room)
    names = {await name()}
    files = list(room.iterdir())
    for file in files:
        with file.open("a") as text:
            text.write("\n")
        names.add(await name())
    assert len(names) == len(files) + 1 > 20
    assert await name() in names


def test_what_runs_inside_imports_the_standard_library_and_itself_alone() -> None:
    imported = set()
    for text in runner_files().values():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                imported |= {name.name for name in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0
                imported.add(node.module or "")
    ours = {name for name in imported if name.partition(".")[0] not in sys.stdlib_module_names}
    assert "pool.inside.protocol" in ours
    assert {name for name in ours if not f"{name}.".startswith("pool.inside.")} == {"sitecustomize"}
