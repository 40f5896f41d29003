"""What documents and docstrings point at is there: files, folders and headings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [
    *ROOT.glob("*.md"),
    *ROOT.glob("docs/**/*.md"),
    *ROOT.glob("findings/*.md"),
    *ROOT.glob("deploy/*.md"),
]
MODULES = [file for room in ("pool", "pgexec", "bench") for file in ROOT.glob(f"{room}/**/*.py")]

LINK = re.compile(r"\]\((?![a-z]+:)([^)\s#]*)(?:#([^)\s]+))?\)")
TEST = re.compile(r"`(tests/[\w/.-]+\.py)::(test_\w+)`")
PATH = re.compile(r"`((?:pool|pgexec|bench|tests|docs|deploy|findings)/[\w./-]*)`")


def heading_ids(document: Path) -> set[str]:
    """Return the names by which a document's headings can be linked to."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_link_leads_somewhere(document: Path) -> None:
    for path, heading in LINK.findall(document.read_text(encoding="utf-8")):
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), path
        assert not heading or heading in heading_ids(target), heading


def test_every_test_that_is_named_exists() -> None:
    named = [
        (path, name)
        for document in DOCUMENTS
        for path, name in TEST.findall(document.read_text(encoding="utf-8"))
    ]
    gone = [
        f"{path}::{name}"
        for path, name in named
        if f"def {name}(" not in (ROOT / path).read_text(encoding="utf-8")
    ]
    assert named
    assert not gone


def test_every_file_and_folder_that_is_named_exists() -> None:
    gone = {
        f"{file.relative_to(ROOT)}: {path}"
        for file in (*DOCUMENTS, *MODULES)
        for path in PATH.findall(file.read_text(encoding="utf-8"))
        if not (ROOT / path).exists()
    }
    assert not gone
