"""A snippet prints, and ends, as `python3 /home/code/Main.py` would in the same image."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from _pytest.mark import ParameterSet

    from tests.differential.twins import Twins

SNIPPETS = Path(__file__).parent / "snippets"

pytestmark = pytest.mark.asyncio(loop_scope="session")


def _snippets(directory: Path) -> list[ParameterSet]:
    """Return the code and the stdin of each snippet, under its own name."""
    snippets = []
    for path in sorted(directory.glob("*.py")):
        stdin = path.with_suffix(".stdin")
        given = stdin.read_bytes() if stdin.exists() else b""
        snippets.append(pytest.param(path.read_bytes(), given, id=path.stem))
    return snippets


@pytest.mark.parametrize(("code", "stdin"), _snippets(SNIPPETS))
async def test_a_snippet_comes_to_what_a_plain_interpreter_makes_of_it(
    twins: Twins, code: bytes, stdin: bytes
) -> None:
    """Byte for byte, on both streams, with the same exit status, in a recycled container."""
    warm, plain = await twins.run(code, stdin)
    assert warm == plain


@pytest.mark.parametrize(("code", "stdin"), _snippets(SNIPPETS / "known"))
async def test_a_known_difference_is_still_there(twins: Twins, code: bytes, stdin: bytes) -> None:
    """Each says at its top why it differs; one that no longer does moves to the others."""
    since = re.match(rb"# since (\d+)\.(\d+)\n", code)
    if since and twins.python_version() < tuple(map(int, since.groups())):
        pytest.skip("the same in this version of Python")
    warm, plain = await twins.run(code, stdin)
    assert warm != plain


async def test_300_kilobytes_of_stdin_arrive(twins: Twins) -> None:
    """That is more than a pipe holds, and the snippet reads it late."""
    code = b"import sys, time; time.sleep(0.1); sys.stdout.buffer.write(sys.stdin.buffer.read())"
    stdin = bytes(range(256)) * 1200
    warm, plain = await twins.run(code, stdin)
    assert warm == plain
    assert len(warm.stdout) == len(stdin)


async def test_stdin_that_nobody_reads_does_no_harm(twins: Twins) -> None:
    """The snippet ends while most of it is still to be written."""
    warm, plain = await twins.run(b"print(1)", bytes(300_000))
    assert warm == plain
