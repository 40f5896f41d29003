"""Somebody else's software, in an environment of its own, driven by lines on its standard input.

A driver is a script of this folder: it reads commands, and prints one JSON value for each.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from typing import TYPE_CHECKING

from bench.errors import AnswerError, BenchError
from bench.server import ROOT

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator

_LINE_BYTES = 8 << 20


@contextlib.asynccontextmanager
async def driving(
    name: str, *packages: str, arguments: tuple[str, ...] = ()
) -> AsyncIterator[Driver]:
    """Start the script `name` in an environment with these packages, made where it is not there.

    Raises BenchError if the environment cannot be made.
    """
    environment = ROOT / ".tools" / f"bench-{name}"
    python = str(environment / "bin" / "python")
    if not (environment / "made").exists():
        await _call(sys.executable, "-m", "venv", str(environment))
        await _call(python, "-m", "pip", "install", "-q", *packages)
        (environment / "made").touch()
    # Without -P a script could not import a package of its own name.
    process = await asyncio.create_subprocess_exec(
        *(python, "-P", str(ROOT / "bench" / f"{name}.py"), *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=_LINE_BYTES,
    )
    try:
        yield Driver(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()


class Driver:
    """Sends commands to the script, and returns its numbers."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def __call__(self, command: str) -> float:
        """Return the number that the script answers. Raises AnswerError where there is none."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(command.encode() + b"\n")
        answer = json.loads(await self._process.stdout.readline() or "null")
        if answer is None:
            raise AnswerError(f"the driver did not do {command!r}")
        return float(answer)


async def _call(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(*command)
    if await process.wait():
        raise BenchError(f"{' '.join(command)} failed")
