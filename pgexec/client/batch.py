"""The results of many inputs for one snippet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pgexec.client.errors import PgexecError, RunLost, RunRefused
from pgexec.client.result import CompletedRun

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass(frozen=True, slots=True)
class BatchRun:
    """What became of one input: a `result`, or the `error` that says why there is none.

    `matches` tells if stdout is what was expected; `None` if there is no result, or nothing was
    expected. An input that was not run because of `stop_on` has the error's code `stopped`.
    """

    result: CompletedRun | None = None
    error: PgexecError | None = None
    matches: bool | None = None

    @property
    def passed(self) -> bool:
        """True if the snippet exited with 0, and its stdout is as expected if that was asked."""
        return self.result is not None and self.result.ok and self.matches is not False

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> BatchRun:
        """Return the run in an item of the server's list `results`."""
        if "code" not in document:
            return cls(result=CompletedRun.of(document), matches=document.get("matches"))
        kind = RunLost if document["status"] == "lost" else RunRefused
        error = kind(
            document["error"],
            code=document["code"],
            status=document["http_status"] or None,
            retry_after_s=document.get("retry_after_s", 0),
        )
        return cls(error=error)


@dataclass(frozen=True, slots=True)
class CompletedBatch:
    """What became of each input, in their order: `for run in batch`, `batch[0]`, `len(batch)`."""

    runs: tuple[BatchRun, ...]

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> CompletedBatch:
        """Return the batch in an answer of the server."""
        return cls(tuple(map(BatchRun.of, document["results"])))

    @property
    def passed(self) -> int:
        """How many runs passed."""
        return sum(run.passed for run in self.runs)

    @property
    def first_failure(self) -> int | None:
        """The number of the first that did not pass, from 0, or `None`."""
        return next((number for number, run in enumerate(self.runs) if not run.passed), None)

    def __len__(self) -> int:
        return len(self.runs)

    def __getitem__(self, number: int) -> BatchRun:
        return self.runs[number]

    def __iter__(self) -> Iterator[BatchRun]:
        return iter(self.runs)
