"""A layer with matplotlib has its list of fonts, and a run finds it where it may write."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from pool.inside import fonts, pip_install

if TYPE_CHECKING:
    from pathlib import Path

FONT_MANAGER = """
import os
directory = os.environ["MPLCONFIGDIR"]
os.makedirs(directory + "/tex.cache")
for name in ("fontlist-v390.json", "fontlist-v390.json.matplotlib-lock"):
    open(f"{directory}/{name}", "w").write("PIP_INDEX_URL" in os.environ and "secret" or "{}")
os.rename(f"{directory}/{name}", f"{directory}/lock")
os.symlink("/etc/passwd", f"{directory}/fontlist-link.json")
"""


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the directory of a layer with something that is called matplotlib."""
    executable: Any = getattr(sys, "_base_executable", sys.executable)
    monkeypatch.setattr(sys, "executable", executable)  # one of a venv has no user site
    monkeypatch.setenv("PIP_INDEX_URL", "https://user:secret@example.com")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    packages = "lib/python{}.{}/site-packages/matplotlib".format(*sys.version_info[:2])
    package = tmp_path / "layer" / packages
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "font_manager.py").write_text(FONT_MANAGER)
    return tmp_path / "layer"


def test_the_list_of_fonts_is_made_with_the_layer_and_nothing_else(base: Path) -> None:
    pip_install.list_fonts(str(base))
    (found,) = (base / fonts.LISTS).iterdir()
    assert (found.name, found.read_text()) == ("fontlist-v390.json", "{}")
    assert not list(base.rglob("__pycache__"))


@pytest.mark.parametrize("code", ["1 / 0", "import os; os.kill(os.getpid(), 9)", ""])
def test_a_package_that_makes_none_leaves_nothing(base: Path, code: str) -> None:
    next(base.rglob("font_manager.py")).write_text(code)
    pip_install.list_fonts(str(base))
    assert not (base / fonts.LISTS).exists()


def test_a_run_finds_the_list_in_a_directory_of_its_own(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fonts, "DIRECTORY", str(tmp_path / "own"))
    fonts.offer(str(base))
    assert not (tmp_path / "own").exists()
    pip_install.list_fonts(str(base))
    for _ in range(2):
        fonts.offer(str(base))
    assert (tmp_path / "own/fontlist-v390.json").read_text() == "{}"
    (tmp_path / "own/written").touch()
