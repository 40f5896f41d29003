"""A check: its name, its function, and the time that it may take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pgexec.doctor.findings import Observation

T = TypeVar("T")

TIMEOUT_S = 15.0


@dataclass(frozen=True, slots=True)
class Check(Generic[T]):
    """A name, and the function that makes the check on a subject of type `T`.

    `starts` is true if the check starts a container of its own.
    """

    name: str
    look: Callable[[T], Awaitable[Observation]]
    timeout_s: float = TIMEOUT_S
    starts: bool = False

    def limit_s(self, start_timeout_s: float) -> float:
        """Return the seconds that the check may take; a container's start comes on top."""
        return self.timeout_s + (start_timeout_s if self.starts else 0.0)
