"""Check what a request puts around its snippet: arguments and environment variables."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING

from pgexec.http.errors import RequestError
from pgexec.http.refusals import BAD, quote
from pgexec.settings.sizes import format_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

MAX_GIVEN_BYTES = 128 << 10
"""The limit on all arguments together, and again on all variables; each has a NUL at its end."""
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def check_arguments(args: Sequence[str]) -> None:
    """Refuse arguments that a process cannot have: `RequestError` 400 or 413."""
    for position, item in enumerate(args, start=1):
        if "\0" in item:
            sentence = f"argument {position} of field 'args' must not hold a NUL character"
            raise RequestError(BAD, "invalid_field", sentence)
    _check_size("args", args)


def check_variables(env: Mapping[str, str]) -> None:
    """Refuse variables that an environment cannot have: `RequestError` 400 or 413."""
    for name, value in env.items():
        if not VARIABLE.fullmatch(name):
            sentence = (
                f"variable {quote(name)} of field 'env' must have a name of letters, digits and _, "
                "and not begin with a digit"
            )
            raise RequestError(BAD, "invalid_field", sentence)
        if "\0" in value:
            sentence = f"variable {quote(name)} of field 'env' must not hold a NUL character"
            raise RequestError(BAD, "invalid_field", sentence)
    _check_size("env", (f"{name}={value}" for name, value in env.items()))


def _check_size(field: str, texts: Iterable[str]) -> None:
    if sum(len(text.encode()) + 1 for text in texts) > MAX_GIVEN_BYTES:
        sentence = f"field '{field}' is over the limit of {format_size(MAX_GIVEN_BYTES)}"
        raise RequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"{field}_too_large", sentence)
