"""What a translation gets and gives: one call of a peer's client."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

Json = dict[str, Any]


class Unfit(Exception):  # noqa: N818  # as of the pool's errors
    """The request is wrong in the peer's own terms; the text says how."""


@dataclass(frozen=True, slots=True)
class Call:
    """A request of a peer's client, and what may be asked of the server for it.

    `run` takes the fields of `POST /run` and returns its answer; `version` returns a language's
    version, such as `3.13.1`. `memory_limit_bytes` has the limit of each language.
    """

    body: object
    run: Callable[[Json], Awaitable[Json]]
    version: Callable[[str], Awaitable[str]]
    languages: Sequence[str]
    run_timeout_s: float
    memory_limit_bytes: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class PeerOperation:
    """One method and path of a peer's API; `fields` is the JSON schema of its body, if any."""

    method: str
    path: str
    summary: str
    answer: Callable[[Call], Awaitable[object]]
    fields: Json | None = None
    open: bool = False
    """True if it needs no key."""


class Peer(Protocol):
    """A module that translates."""

    OPERATIONS: tuple[PeerOperation, ...]

    def refuse(self, status: int, code: str, sentence: str) -> tuple[int, object]:
        """Return the peer's status and document for an error of ours."""
        ...


def text_of(body: Json, name: str, *, needed: bool = False) -> str:
    """Return a text of a body. Raises `Unfit` if it is none, or is needed and not there."""
    value = body.get(name)
    if isinstance(value, str) or (value is None and not needed):
        return value or ""
    raise Unfit(f"{name} is required as a string" if needed else f"{name} must be a string")


def object_of(body: object) -> Json:
    """Return a body that must be an object. Raises `Unfit`."""
    if not isinstance(body, dict):
        raise Unfit("the body must be a JSON object")
    return body


def language_of(call: Call, name: str) -> str | None:
    """Return the server's language for a peer's name of it, or `None`."""
    lower = name.lower()
    known = lower if lower in call.languages else {"py": "python", "python3": "python"}.get(lower)
    return known if known in call.languages else None
