"""Say in one sentence what is wrong with a body that is no request."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING

from pydantic import ValidationError
from pydantic_core import from_json

from pgexec.contract import GivenFile, RunRequest
from pgexec.http.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from pydantic_core import ErrorDetails

BAD = HTTPStatus.BAD_REQUEST
_QUOTED_CHARS = 80
_SHOWN_BITS = 128
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_HALF = re.compile("unexpected end of hex escape|lone leading surrogate in hex escape")

_EXPECTED = {
    "language": "a string",
    "code": "a string",
    "dependencies": "a list of strings",
    "stdin": "a string",
    "stdins": "a list of strings",
    "expected": "a list of strings",
    "compare": "'exact' or 'ignore_trailing_space'",
    "stop_on": "'first_failure'",
    "timeout_s": "a finite number above 0",
    "fresh": "true or false",
    "files": "a list of objects with a name and a content",
    "args": "a list of strings",
    "collect": "a list of strings",
    "env": "an object of strings",
    "memory_limit_bytes": "a whole number above 0",
    "cpu_time_s": "a finite number above 0",
    "output_limit_bytes": "a whole number above 0",
    "user": "a string",
    "idle_timeout_s": "a finite number above 0",
}
_JSON_TYPES = {
    type(None): "null",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    str: "a string",
    list: "a list",
    dict: "an object",
}


def bulk_refusal(start: bytes | bytearray) -> RequestError:
    """Return the error of a body with too many parts; `start` is its beginning."""
    try:
        RunRequest.model_validate(from_json(start, allow_partial=True))
    except ValidationError as error:
        details = error.errors(include_url=False)
        # A field that is missing here may come later in the body.
        if present := [detail for detail in details if detail["type"] != "missing"]:
            return refusal(present, start)
    except ValueError as error:
        return RequestError(BAD, "invalid_json", f"the body is not valid JSON: {error}")
    return RequestError(BAD, "invalid_json", "the body has more fields than a request can have")


def unknown_field(field: str, known: Collection[str]) -> RequestError:
    """Return the error of a field that is none of those which are known."""
    sentence = f"field {quote(field)} is unknown; there are {', '.join(known)}"
    return RequestError(BAD, "unknown_field", sentence)


def refusal(
    details: Iterable[ErrorDetails],
    body: bytes | bytearray,
    known: Collection[str] = tuple(RunRequest.model_fields),
) -> RequestError:
    """Return the error of a body from pydantic's `details` about it, of which the first counts.

    `known` are the fields that it may have.
    """
    first = next(iter(details))
    kind = first["type"]
    if kind == "json_invalid":
        if not body.strip():
            return RequestError(BAD, "invalid_json", "the body is empty; it must be a JSON object")
        return not_json(first["ctx"]["error"], body)
    if not first["loc"]:
        got = _JSON_TYPES.get(type(first["input"]), "something else")
        return RequestError(BAD, "invalid_json", f"the body must be a JSON object, not {got}")
    if first["loc"][0] == "files" and len(first["loc"]) > 2:  # noqa: PLR2004  # its number, its field
        return _file_refusal(first)
    return _field_refusal(first, known)


def not_json(reason: str, body: bytes | bytearray = b"") -> RequestError:
    """Return the error of a body that is not JSON, by the parser's reason."""
    if "hex escape" in reason and _SURROGATE.search(body):
        reason = _HALF.sub("half of a surrogate pair", reason)
    return RequestError(BAD, "invalid_json", f"the body is not valid JSON: {reason}")


def _field_refusal(detail: ErrorDetails, known: Collection[str]) -> RequestError:
    field, kind = str(detail["loc"][0]), detail["type"]
    if kind == "extra_forbidden":
        return unknown_field(field, known)
    if kind == "missing":
        return RequestError(BAD, "missing_field", f"field '{field}' is missing")
    if kind == "too_long":
        most = detail["ctx"]["max_length"]
        sentence = f"field '{field}' may have at most {most} items"
    elif kind == "finite_number":
        sentence = f"field '{field}' must be {_EXPECTED[field]}, not {number(detail['input'])}"
    else:
        given = detail["input"]
        got = _JSON_TYPES.get(type(given), "something else")
        if kind == "literal_error" and isinstance(given, str):
            got = quote(given)
        elif len(detail["loc"]) > 1:
            whole = "an object" if field == "env" else "a list"
            got = f"{whole} with {got} in it"
        sentence = f"field '{field}' must be {_EXPECTED[field]}, not {got}"
    return RequestError(BAD, "invalid_field", sentence)


def _file_refusal(detail: ErrorDetails) -> RequestError:
    """Return the error of one field of one file, which counts from 1."""
    position, field = int(detail["loc"][1]) + 1, str(detail["loc"][2])
    where = f"file {position} of field 'files'"
    if detail["type"] == "extra_forbidden":
        known = ", ".join(GivenFile.model_fields)
        sentence = f"{where} has a field {quote(field)}, which is unknown; there are {known}"
        return RequestError(BAD, "unknown_field", sentence)
    if detail["type"] == "missing":
        return RequestError(BAD, "missing_field", f"{where} has no '{field}'")
    wanted = "'utf8' or 'base64'" if field == "encoding" else "a string"
    given = detail["input"]
    got = quote(given) if isinstance(given, str) else _JSON_TYPES.get(type(given), "something else")
    sentence = f"{where} must have {wanted} as its '{field}', not {got}"
    return RequestError(BAD, "invalid_field", sentence)


def quote(text: str) -> str:
    """Return a client's own text in quotes, in one line and not too long."""
    shown = text if len(text) <= _QUOTED_CHARS else text[:_QUOTED_CHARS] + "…"
    return ascii(shown) if not shown.isprintable() else repr(shown)


def number(value: float) -> str:
    """Return a number as text, exact unless it has dozens of digits."""
    if isinstance(value, int):
        return str(value) if value.bit_length() <= _SHOWN_BITS else "one of hundreds of digits"
    short = f"{value:g}"
    return min(short, repr(value), key=len) if float(short) == value else repr(value)
