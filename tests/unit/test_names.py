"""The plan of the house: no name for two things, and no module too long to be read in one go."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODULES = {
    file.relative_to(ROOT): file.read_text(encoding="utf-8")
    for room in ("pool", "pgexec", "bench")
    for file in ROOT.glob(f"{room}/**/*.py")
}
MOST_LINES = 400


def test_no_two_classes_have_one_name() -> None:
    classes = [
        node.name
        for source in MODULES.values()
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ClassDef)
    ]
    assert not [name for name, count in Counter(classes).items() if count > 1]


def test_no_module_is_too_long() -> None:
    assert MODULES
    assert not [str(file) for file, text in MODULES.items() if text.count("\n") > MOST_LINES]
