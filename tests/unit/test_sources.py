"""How the sources of what runs inside get there, and what an image is known by."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any, cast

from pool import sources
from pool.engine import image
from pool.sources import bootstrap_command, runner_files, source

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from pool.engine.docker import DockerEngine

LINUX_ARGUMENT_BYTES = 128 << 10


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


async def test_the_prepared_image_is_another_one_as_soon_as_any_file_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Engine:
        async def image_id(self, name: str) -> str:
            return f"id of {name}"

    async def name() -> str:
        engine = cast("DockerEngine", Engine())
        return (await image.prepare(engine, "base", directories=("/home",))).name

    texts: dict[str, Any] = {}
    monkeypatch.setattr(sources, "source", lambda name: source(name) + texts.get(name, ""))
    monkeypatch.setattr(image, "source", sources.source)
    before = await name()
    assert await name() == before
    for changed in ("runner", "layer", "start", "prepare"):
        texts[changed] = "\n"
        assert await name() != before, changed
        texts.clear()
