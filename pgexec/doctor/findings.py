"""What a check found, and how that is said: to people a line, to machines JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_NAME_WIDTH = 15


class CheckStatus(StrEnum):
    """How a check ended; `SKIP`: it had nothing to look at."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class Finding:
    """One check's result: a sentence without its full stop and, if need be, what helps."""

    check: str
    status: CheckStatus
    finding: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Observation:
    """What a check saw, without the check's name, which its caller adds: `ok("1").of("CPU")`."""

    status: CheckStatus
    finding: str
    remedy: str = ""

    def of(self, check: str) -> Finding:
        """Return the finding of the check with this name, each part on one line."""
        return Finding(check, self.status, _one_line(self.finding), _one_line(self.remedy))


def ok(finding: str) -> Observation:
    """Say that there is nothing to do."""
    return Observation(CheckStatus.OK, finding)


def warn(finding: str, remedy: str) -> Observation:
    """Say that the server works, but less safely or slower than it could."""
    return Observation(CheckStatus.WARN, finding, remedy)


def fail(finding: str, remedy: str) -> Observation:
    """Say that the server does not work, or does not hold what it promises."""
    return Observation(CheckStatus.FAIL, finding, remedy)


def skip(finding: str) -> Observation:
    """Say that the check has nothing to look at; another finding says why."""
    return Observation(CheckStatus.SKIP, finding)


def render(finding: Finding) -> str:
    """Return the line for people."""
    line = f"{finding.status:<4}  {finding.check:<{_NAME_WIDTH}}  {finding.finding}"
    return f"{line}; remedy: {finding.remedy}" if finding.remedy else line


def render_json(findings: Iterable[Finding]) -> str:
    """Return the document for machines: a list of check, status, finding, remedy."""
    return json.dumps([asdict(finding) for finding in findings], indent=2)


def exit_status(findings: Sequence[Finding]) -> int:
    """Return 1 if anything failed, else 0; warnings do not count."""
    return int(any(finding.status is CheckStatus.FAIL for finding in findings))


def _one_line(text: str) -> str:
    return " ".join(text.split())
