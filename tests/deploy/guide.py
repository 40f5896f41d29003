"""The commands of deploy/README.md, each block of which a test runs."""

from __future__ import annotations

import re
from typing import NamedTuple

from tests.conftest import ROOT

GUIDE = ROOT / "deploy/README.md"
_PART = re.compile(r"^## (.*)$|^```sh\n((?:.*\n)*?)```$", re.MULTILINE)


class Block(NamedTuple):
    """One block of commands: the heading that it stands under, and its text."""

    heading: str
    text: str

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()


def blocks() -> list[Block]:
    """Return all blocks, in the order of the page."""
    found, heading = [], ""
    for title, text in _PART.findall(GUIDE.read_text(encoding="utf-8")):
        heading = title or heading
        if text:
            found.append(Block(heading, text))
    return found


def block(heading: str, number: int = 0) -> Block:
    """Return one block under a heading."""
    return [one for one in blocks() if one.heading == heading][number]
