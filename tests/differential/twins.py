"""One snippet, run twice: warm and plain, and what of the outcomes cannot be the same."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from pool.job import Job
from tests.differential.plain import Outcome

if TYPE_CHECKING:
    from pool.container import Container
    from pool.job import Result
    from tests.differential.plain import PlainInterpreter

RESET_TIMEOUT_S = 10


class Normalisation(NamedTuple):
    """What stands for something that differs from one plain run to the next already."""

    reason: str
    pattern: bytes
    replacement: bytes


NORMALISATIONS = (
    Normalisation("addresses, and thread ids, which are addresses", rb"0x[0-9a-f]{6,}", b"0x"),
    Normalisation("the process id in the warning about fork", rb"\(pid=\d+\)", b"(pid)"),
    Normalisation("the same of an abandoned subprocess", rb"(?<=subprocess )\d+(?= is)", b"pid"),
    Normalisation("the stack in use, from 3.14 on", rb"(?<=overflow \(used )\d+(?= kB\))", b"N"),
)


def normalised(output: bytes) -> bytes:
    """Return the output with everything that may differ replaced."""
    for _, pattern, replacement in NORMALISATIONS:
        output = re.sub(pattern, replacement, output)
    return output


@dataclass(frozen=True, slots=True)
class Twins:
    """A warm container and a plain one, made from the same document."""

    warm: Container
    plain: PlainInterpreter

    async def run(self, code: bytes, stdin: bytes = b"") -> tuple[Outcome, Outcome]:
        """Run a snippet in both, and return the warm outcome and the plain one, normalised."""
        results = await asyncio.gather(self._run_warm(code, stdin), self.plain.run(code, stdin))
        warm, plain = (
            Outcome(one.status, normalised(one.stdout), normalised(one.stderr)) for one in results
        )
        return warm, plain

    async def _run_warm(self, code: bytes, stdin: bytes) -> Outcome:
        result = await self.warm.run(Job(code, stdin))
        report = await self.warm.reset(timeout_s=RESET_TIMEOUT_S)
        assert report.clean, report.detail
        return Outcome(_status(result), result.stdout, result.stderr)

    def python_version(self) -> tuple[int, ...]:
        """Return the version of the interpreter in both."""
        return tuple(map(int, str(self.warm.runner["python"]).split(".")))


def _status(result: Result) -> int:
    if result.signal is not None:
        return -result.signal
    assert result.exit_code is not None
    return result.exit_code
