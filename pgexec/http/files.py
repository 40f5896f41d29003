"""Check the files that a request brings, and decode them."""

from __future__ import annotations

import binascii
import re
from http import HTTPStatus
from typing import TYPE_CHECKING

from pgexec.http.errors import RequestError
from pgexec.http.refusals import BAD, quote
from pgexec.settings.sizes import format_size
from pool.inside.patterns import check

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgexec.contract import GivenFile
    from pgexec.http.limits import RequestLimits

MAX_PART_BYTES = 255
MAX_PATH_BYTES = 1024
MAX_WILDCARDS = 512
BASE64 = "base64"


def check_names(files: Sequence[GivenFile], limits: RequestLimits, script: str) -> None:
    """Refuse, by `RequestError` 400, names that could not all be files below one directory.

    `script` is that of the code there; sessions have none, and so it is empty.
    """
    if len(files) > limits.files_max:
        sentence = f"field 'files' may have at most {limits.files_max} items"
        raise RequestError(BAD, "invalid_field", sentence)
    names: set[str] = set()
    for file in files:
        if (fault := _fault(file.name, script)) is None and file.name in names:
            fault = "comes twice"
        if fault is not None:
            raise _wrong(file.name, fault)
        names.add(file.name)
    taken = names | {script}
    for name in names:
        for at in (at for at, char in enumerate(name) if char == "/"):
            if name[:at] in taken:
                raise _wrong(name, f"needs a directory where {quote(name[:at])} is a file")


def _fault(name: str, script: str) -> str | None:
    parts = name.split("/")
    fault = None
    if name.startswith("/"):
        fault = "must have a relative path"
    elif "" in parts:
        fault = "must not have an empty part in its path"
    elif "." in parts or ".." in parts:
        fault = "must not have a part '.' or '..' in its path"
    elif "\0" in name:
        fault = "must not have a NUL character in its name"
    elif len(name.encode()) > MAX_PATH_BYTES:
        fault = f"must have a path of at most {MAX_PATH_BYTES} bytes"
    elif any(len(part.encode()) > MAX_PART_BYTES for part in parts):
        fault = f"must not have a part of more than {MAX_PART_BYTES} bytes in its path"
    elif name == script:
        fault = "has the name of the script, which holds 'code'"
    return fault


def check_patterns(patterns: Sequence[str]) -> None:
    """Refuse, by `RequestError` 400, patterns that could match no file below one directory.

    Also those with so many wildcards that to compile them would take long.
    """
    if sum(pattern.count(char) for pattern in patterns for char in "*?[") > MAX_WILDCARDS:
        sentence = f"field 'collect' may have at most {MAX_WILDCARDS} of *, ? and [ in all"
        raise RequestError(BAD, "invalid_field", sentence)
    for pattern in patterns:
        fault = _fault(pattern, "")
        if fault is None:
            try:
                check(pattern)
            except re.error as error:
                fault = f"has a set that cannot be: {error.msg}"
        if fault is not None:
            sentence = f"pattern {quote(pattern)} of field 'collect' {fault}"
            raise RequestError(BAD, "invalid_field", sentence)


class Contents:
    """Decodes the contents of all files of a request, and counts their bytes.

    Raises `RequestError`: 400 for wrong base64, 413 for more than `limit_bytes` together.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._left = limit_bytes

    def decode(self, file: GivenFile) -> bytes:
        """Return the bytes of a file whose content is a string as it came."""
        text = str(file.content)
        try:
            data = from_base64(text) if file.encoding == BASE64 else text.encode()
        except ValueError:
            raise not_base64(file) from None
        self.count(len(data))
        return data

    def count(self, size: int) -> None:
        """Count bytes of a file."""
        self._left -= size
        if self._left < 0:
            limit = format_size(self._limit_bytes)
            sentence = f"the files are over the limit of {limit} together"
            raise RequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "files_too_large", sentence)


def from_base64(text: str | bytes) -> bytes:
    """Return the bytes that `text` stands for, by RFC 4648 without line ends, or `ValueError`."""
    if len(text) % 4:
        raise ValueError("no padding, or too much")
    return binascii.a2b_base64(text, strict_mode=True)


def not_base64(file: GivenFile) -> RequestError:
    """Return the error of a content that is no base64."""
    return _wrong(file.name, "is not base64, with padding and without line ends")


def _wrong(name: str, fault: str) -> RequestError:
    return RequestError(BAD, "invalid_file", f"file {quote(name)} {fault}")
