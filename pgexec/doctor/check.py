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
    """A name, and the function that makes the check on a subject of type `T`."""

    name: str
    look: Callable[[T], Awaitable[Observation]]
    timeout_s: float = TIMEOUT_S
