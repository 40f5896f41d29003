"""Check the standard inputs of a request, one or many, and what is expected of each."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from pgexec.http.errors import RequestError
from pgexec.http.refusals import BAD
from pgexec.settings.sizes import format_size

if TYPE_CHECKING:
    from pgexec.contract import RunRequest
    from pgexec.http.limits import RequestLimits


def check_inputs(request: RunRequest, limits: RequestLimits) -> None:
    """Refuse, by `RequestError`, inputs that do not go together (400) or are too large (413)."""
    stdins, expected = request.stdins, request.expected
    if stdins is None:
        if request.stdin:
            check_size("stdin", request.stdin, limits.stdin_limit_bytes)
        given = {"expected": expected, "stop_on": request.stop_on}
        for field, value in given.items():
            if value is not None:
                raise _wrong(f"field '{field}' is for requests with the field 'stdins'")
    elif "stdin" in request.model_fields_set:
        raise _wrong("fields 'stdin' and 'stdins' cannot be in one request")
    elif not 1 <= len(stdins) <= limits.batch_max:
        most = limits.batch_max
        raise _wrong(f"field 'stdins' must have 1 to {most} items, not {len(stdins)}")
    elif expected is not None and len(expected) != len(stdins):
        raise _wrong(
            f"field 'expected' must have as many items as 'stdins', {len(stdins)}, "
            f"not {len(expected)}"
        )
    else:
        for text in stdins:
            check_size("stdins", text, limits.stdin_limit_bytes, "field 'stdins' has an item that")
    if expected is None and request.compare != "exact":
        raise _wrong("field 'compare' is for requests with the field 'expected'")


def check_size(field: str, text: str, limit_bytes: int, what: str = "") -> None:
    """Refuse, by `RequestError` 413, a text of a field that is over its limit."""
    # UTF-8 needs one to four bytes for each character. So most texts need not be encoded here.
    if len(text) * 4 <= limit_bytes:
        return
    if len(text) > limit_bytes or len(text.encode()) > limit_bytes:
        sentence = f"{what or f'field {field!r}'} is over the limit of {format_size(limit_bytes)}"
        raise RequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"{field}_too_large", sentence)


def _wrong(sentence: str) -> RequestError:
    return RequestError(BAD, "invalid_field", sentence)
