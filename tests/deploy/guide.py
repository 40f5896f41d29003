"""The commands of deploy/README.md, block by block, as tests run them."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
from typing import TYPE_CHECKING, NamedTuple

from tests.conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

GUIDE = ROOT / "deploy/README.md"
PATIENCE_S = 90
"""Until what is told to end is killed."""
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


def stand_in(directory: Path, name: str, command: Sequence[str]) -> None:
    """Have a program of a name: a command that the rest of the line is added to."""
    directory.mkdir(exist_ok=True)
    script = directory / name
    script.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
    script.chmod(0o755)


@contextlib.contextmanager
def going_on(
    text: str, cwd: Path, programs: Path, **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Run commands, the last of which goes on until Ctrl-C, with these programs before all others.

    What they say goes to a file `log` beside the directory of the programs.
    """
    with (programs.parent / "log").open("ab") as log:
        process = subprocess.Popen(
            ["bash", "-c", text],
            cwd=cwd,
            env=_with(programs) | environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # A group of their own, as a terminal makes one for what it runs.
            start_new_session=True,
        )
    try:
        yield process
    finally:
        interrupt(process)


def interrupt(process: subprocess.Popen[bytes]) -> None:
    """End a group of processes as Ctrl-C in their terminal does, or else by SIGKILL."""
    for number in (signal.SIGINT, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE_S)
            return


def told(line: str, cwd: Path, programs: Path) -> str:
    """Return what a line prints, with these programs before all others."""
    command = ["bash", "-c", line]
    done = subprocess.run(
        command, cwd=cwd, env=_with(programs), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _with(programs: Path) -> dict[str, str]:
    return {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
