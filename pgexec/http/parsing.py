"""Parse a request to run: from the bytes of its body to a `RunRequest` within the limits."""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from packaging.requirements import InvalidRequirement, Requirement
from pydantic import ValidationError
from pydantic_core import from_json

from pgexec.contract import MAX_DEPENDENCIES, MAX_REQUIREMENT_CHARS, MAX_USER_CHARS, RunRequest
from pgexec.http.body import SMALL_BYTES, cut
from pgexec.http.errors import RequestError
from pgexec.settings.sizes import format_size
from pool.dependencies.requirements import EVERY_PACKAGE, PackageList

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic_core import ErrorDetails

    from pgexec.settings import Settings

MIN_TIMEOUT_S = 0.001
"""The runner counts in milliseconds; in less, no interpreter begins."""
_QUOTED_CHARS = 80
_SHOWN_BITS = 128
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_HALF = re.compile("unexpected end of hex escape|lone leading surrogate in hex escape")
_ARCHIVES = (
    *(".zip", ".whl", ".tar", ".tgz", ".tbz", ".txz", ".tlz"),
    *(".tar.gz", ".tar.bz2", ".tar.xz", ".tar.lz", ".tar.lzma"),
)
"""pip takes names with these endings for files (its `utils/filetypes.py`)."""

BAD = HTTPStatus.BAD_REQUEST


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """The limits on a request, which the answers name, too."""

    languages: tuple[str, ...]
    run_timeout_s: float
    code_limit_bytes: int
    stdin_limit_bytes: int
    memory_limit_bytes: int
    output_limit_bytes: int
    packages: PackageList = EVERY_PACKAGE
    disk_limit_bytes: int = 64 << 20
    users: bool = False
    """True if some key may name the end user of a request."""

    @classmethod
    def of(cls, settings: Settings) -> RequestLimits:
        """Return the limits of the settings."""
        return cls(
            languages=tuple(settings.by_language),
            run_timeout_s=settings.run_timeout_s,
            code_limit_bytes=settings.code_limit,
            stdin_limit_bytes=settings.stdin_limit,
            memory_limit_bytes=settings.memory_limit,
            output_limit_bytes=settings.output_limit,
            packages=PackageList(settings.dependency_allow, settings.dependency_deny),
            users=bool(settings.trusted_keys),
            disk_limit_bytes=settings.disk_limit,
        )

    def timeout_s(self, request: RunRequest) -> float:
        """Return the time in seconds that the snippet of a request may take."""
        return self.run_timeout_s if request.timeout_s is None else request.timeout_s


def parse_run(body: bytes | bytearray, limits: RequestLimits) -> RunRequest:
    """Return the request in a JSON body.

    Raises `RequestError`: 400 with a sentence about the first error, 413 for code or stdin over
    their limits.
    """
    if len(body) > SMALL_BYTES and (start := cut(body)) is not None:
        raise _bulk_refusal(start)
    try:
        request = RunRequest.model_validate_json(body)
    except ValidationError as error:
        raise _refusal(error.errors(include_url=False, include_context=True), body) from None
    if request.language not in limits.languages:
        known = ", ".join(map(repr, limits.languages))
        sentence = f"language {_quote(request.language)} is not supported, only {known}"
        raise RequestError(BAD, "unsupported_language", sentence)
    if not request.code or request.code.isspace():
        raise RequestError(BAD, "empty_code", "field 'code' must not be empty or blank")
    if "\0" in request.code:  # before 3.12, Python ignores all code after a NUL without an error
        raise RequestError(BAD, "invalid_code", "field 'code' must not hold a NUL character")
    _check_size("code", request.code, limits.code_limit_bytes)
    if request.stdin:
        _check_size("stdin", request.stdin, limits.stdin_limit_bytes)
    if request.timeout_s is not None:
        _check_timeout(request.timeout_s, limits)
    _check_user(request.user)
    for item in request.dependencies:
        check_requirement(item)
        if (reason := limits.packages.refuses(item)) is not None:
            raise RequestError(BAD, "bad_requirement", f"dependency {_quote(item)} {reason}")
    return request


def check_requirement(item: str) -> None:
    """Refuse, by `RequestError`, all but a plain name with extras, versions and markers.

    pip would also accept options, addresses and paths. By these a client could reach files and
    hosts that it must not reach.
    """
    sentence = None
    if len(item) > MAX_REQUIREMENT_CHARS:
        sentence = f"is longer than {MAX_REQUIREMENT_CHARS} characters"
    elif item.lstrip().startswith("-"):
        sentence = "is an option of the installer, not a package"
    elif not item.isascii() or not item.isprintable():
        sentence = "has characters that a requirement cannot have"
    else:
        try:
            requirement = Requirement(item)
            if _is_archive(requirement.name) or _is_archive(item.partition(";")[0]):
                sentence = "is a file's name; only packages of the index can be installed"
            elif requirement.url is not None:
                sentence = "names an address; only packages of the index can be installed"
        except InvalidRequirement:
            sentence = "is not a requirement such as 'requests' or 'numpy>=2,<3'"
    if sentence is not None:
        raise RequestError(BAD, "bad_requirement", f"dependency {_quote(item)} {sentence}")


def _check_user(name: str | None) -> None:
    if name is None or (0 < len(name) <= MAX_USER_CHARS and name.isascii() and name.isprintable()):
        return
    sentence = f"field 'user' must have 1 to {MAX_USER_CHARS} printable ASCII characters"
    raise RequestError(BAD, "invalid_field", sentence)


def _is_archive(name: str) -> bool:
    return name.strip().lower().endswith(_ARCHIVES)


def _check_size(field: str, text: str, limit_bytes: int) -> None:
    # UTF-8 needs one to four bytes for each character. So most texts need not be encoded here.
    if len(text) * 4 <= limit_bytes:
        return
    if len(text) > limit_bytes or len(text.encode()) > limit_bytes:
        sentence = f"field {field!r} is over the limit of {format_size(limit_bytes)}"
        raise RequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"{field}_too_large", sentence)


def _check_timeout(value: float, limits: RequestLimits) -> None:
    most = limits.run_timeout_s
    if not 0 < value <= most:
        wanted = f"a number above 0 and at most {_number(most)}"
    elif value < MIN_TIMEOUT_S:
        wanted = f"at least {MIN_TIMEOUT_S}, which is a millisecond"
    else:
        return
    sentence = f"field 'timeout_s' must be {wanted}, not {_number(value)}"
    raise RequestError(BAD, "invalid_field", sentence)


def _number(value: float) -> str:
    """Return a number as text, exact unless it has dozens of digits."""
    if isinstance(value, int):
        return str(value) if value.bit_length() <= _SHOWN_BITS else "one of hundreds of digits"
    short = f"{value:g}"
    return min(short, repr(value), key=len) if float(short) == value else repr(value)


_EXPECTED = {
    "language": "a string",
    "code": "a string",
    "dependencies": "a list of strings",
    "stdin": "a string",
    "timeout_s": "a finite number above 0",
    "fresh": "true or false",
    "user": "a string",
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


def _bulk_refusal(start: bytes | bytearray) -> RequestError:
    """Return the error of a body with too many parts; `start` is its beginning."""
    try:
        RunRequest.model_validate(from_json(start, allow_partial=True))
    except ValidationError as error:
        details = error.errors(include_url=False)
        # A field that is missing here may come later in the body.
        if present := [detail for detail in details if detail["type"] != "missing"]:
            return _refusal(present, start)
    except ValueError as error:
        return RequestError(BAD, "invalid_json", f"the body is not valid JSON: {error}")
    return RequestError(BAD, "invalid_json", "the body has more fields than a request can have")


def _refusal(details: Iterable[ErrorDetails], body: bytes | bytearray) -> RequestError:
    first = next(iter(details))
    kind = first["type"]
    if kind == "json_invalid":
        if not body.strip():
            return RequestError(BAD, "invalid_json", "the body is empty; it must be a JSON object")
        reason = first["ctx"]["error"]
        if "hex escape" in reason and _SURROGATE.search(body):
            reason = _HALF.sub("half of a surrogate pair", reason)
        return RequestError(BAD, "invalid_json", f"the body is not valid JSON: {reason}")
    if not first["loc"]:
        got = _JSON_TYPES.get(type(first["input"]), "something else")
        return RequestError(BAD, "invalid_json", f"the body must be a JSON object, not {got}")
    field = str(first["loc"][0])
    if kind == "extra_forbidden":
        known = ", ".join(RunRequest.model_fields)
        return RequestError(
            BAD, "unknown_field", f"field {_quote(field)} is unknown; there are {known}"
        )
    if kind == "missing":
        return RequestError(BAD, "missing_field", f"field '{field}' is missing")
    if kind == "too_long":
        sentence = f"field '{field}' may have at most {MAX_DEPENDENCIES} items"
    elif kind == "finite_number":
        sentence = f"field '{field}' must be {_EXPECTED[field]}, not {_number(first['input'])}"
    else:
        got = _JSON_TYPES.get(type(first["input"]), "something else")
        item = " with " + got + " in it" if len(first["loc"]) > 1 else ""
        sentence = f"field '{field}' must be {_EXPECTED[field]}, not "
        sentence += f"a list{item}" if item else got
    return RequestError(BAD, "invalid_field", sentence)


def _quote(text: str) -> str:
    shown = text if len(text) <= _QUOTED_CHARS else text[:_QUOTED_CHARS] + "…"
    return ascii(shown) if not shown.isprintable() else repr(shown)
