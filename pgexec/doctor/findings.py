"""The finding of a check, and its forms: a line for people, JSON for machines."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_NAME_WIDTH = 15


class CheckStatus(StrEnum):
    """How a check ended. `SKIP`: its subject was missing."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a check: a sentence without its full stop, and a remedy or `""`."""

    check: str
    status: CheckStatus
    finding: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Observation:
    """The result of a check without its name; the caller adds the name: `ok("1").of("CPU")`."""

    status: CheckStatus
    finding: str
    remedy: str = ""

    def of(self, check: str) -> Finding:
        """Return the finding of the check with this name, each part on one line."""
        return Finding(check, self.status, _one_line(self.finding), _one_line(self.remedy))


def ok(finding: str) -> Observation:
    """Return the observation that all is well."""
    return Observation(CheckStatus.OK, finding)


def warn(finding: str, remedy: str) -> Observation:
    """Return the observation that the server works, but less safely or slower than it could."""
    return Observation(CheckStatus.WARN, finding, remedy)


def fail(finding: str, remedy: str) -> Observation:
    """Return the observation that the server does not work, or does not keep its promises."""
    return Observation(CheckStatus.FAIL, finding, remedy)


def skip(finding: str) -> Observation:
    """Return the observation that the check's subject is missing; another finding says why."""
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
