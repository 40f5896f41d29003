"""Parse a long body in pieces: its long texts are taken out before the rest is parsed.

To parse and decode 16 MiB of files at once would block the event loop for a tenth of a second. So
the body is searched for contents of files, code and stdin, a piece at a time. The rest is parsed as
ever, with a mark in the place of each. Then each is decoded from the body, a piece at a time.
"""

from __future__ import annotations

import contextlib
import re
import secrets
from typing import TYPE_CHECKING, NamedTuple

from pydantic_core import CoreConfig, SchemaValidator, ValidationError, core_schema, from_json

from pgexec.http.body import MAX_TOKENS, too_large
from pgexec.http.errors import RequestError
from pgexec.http.files import BASE64, Contents, from_base64, not_base64
from pgexec.http.inputs import check_inputs
from pgexec.http.parsing import check_code, parse_run
from pgexec.http.refusals import BAD, not_json, quote
from pgexec.http.surroundings import MAX_GIVEN_BYTES, check_variables
from pool.output import end_of_characters
from pool.turns import turn

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping

    from pgexec.contract import GivenFile, RunRequest
    from pgexec.http.limits import RequestLimits
    from pgexec.http.parsing import BodyForm

LONG_BYTES = 256 << 10
"""Longer bodies are parsed in pieces."""
PIECE_BYTES = 128 << 10
_SLOW_BYTES = 32 << 10
"""So much of a string with escapes is one piece: these are read more slowly."""
_TAKEN_BYTES = 16 << 10
"""Longer texts are taken out of a body."""
_STRINGS_AT_ONCE = 1000
_KEY_BYTES = 64

_MARK = secrets.token_hex(16)
"""Stands for a text, with a number. A client that knew it could name a text twice."""
_INSIDE = re.compile(
    rb'[^"\\]*+(?:\\(?:u[dD][89abAB]..\\u....|u(?![dD][89abAB])....|[^u])[^"\\]*+)*+', re.DOTALL
)
"""The inside of a string; it ends before a half of an escape or of a surrogate pair. All
quantifiers are possessive, as those of `pgexec/http/body.py`."""
_ESCAPE_BYTES = 12
"""The longest escape: a surrogate pair."""
_LONGEST = 4
"""The most bytes that a character has in UTF-8."""
_COLON = re.compile(rb"\s*+:")
_LONG_FIELDS = frozenset({b"content", b"code", b"stdin", b"stdins", b"expected"})
_FAST_BASE64 = SchemaValidator(
    core_schema.bytes_schema(strict=True), CoreConfig(val_json_bytes="base64")
)
"""Decodes five times as fast as `binascii`, also with `-` and `_` in place of `+` and `/`."""


class _Text(NamedTuple):
    """The inside of a string of a body, from `begin` to `end`."""

    body: bytearray
    begin: int
    end: int

    def __len__(self) -> int:
        return self.end - self.begin


async def parse_body(
    body: bytearray, limits: RequestLimits, form: BodyForm | None = None
) -> RunRequest:
    """Return the request in a body of any length. Raises the errors of `parse_run`."""
    if len(body) <= LONG_BYTES:
        if len(body) > limits.plain_body_bytes:
            raise too_large(limits.plain_body_bytes)
        return parse_run(body, limits, form=form)
    rest, taken = await _excerpt(body)
    if len(rest) > limits.plain_body_bytes:
        raise too_large(limits.plain_body_bytes)
    contents = Contents(limits.files_limit_bytes)
    request = parse_run(rest, limits, contents, taken, form)
    update: dict[str, object] = {}
    if (text := taken.get(request.code)) is not None:
        code = update["code"] = await _string(text)
        check_code(code, limits)
    if (text := taken.get(request.stdin)) is not None:
        update["stdin"] = await _string(text)
    for name in ("stdins", "expected"):
        if given := getattr(request, name):
            update[name] = [
                item if (text := taken.get(item)) is None else await _string(text) for item in given
            ]
    update["env"] = _variables(request, taken)
    update["files"] = [
        file.model_copy(update={"content": await _decode(file, text, contents)})
        if isinstance(file.content, str) and (text := taken.get(file.content))
        else file
        for file in request.files
    ]
    request = request.model_copy(update=update)
    check_inputs(request, limits)
    return request


async def parse_json(body: bytes | bytearray) -> object:
    """Return the value of any JSON, long texts in it a piece at a time.

    Raises `RequestError` 400.
    """
    if len(body) <= LONG_BYTES:
        return _value(body)
    rest, taken = await _excerpt(bytearray(body), None)
    return _filled(_value(rest), {mark: await _string(text) for mark, text in taken.items()})


def _value(body: bytes | bytearray) -> object:
    try:
        return from_json(body)
    except ValueError as error:
        sentence = f"the body is not valid JSON: {error}"
        raise RequestError(BAD, "invalid_json", sentence) from None


def _filled(value: object, texts: Mapping[str, str]) -> object:
    """Return a value with the texts in the place of their marks."""
    if isinstance(value, str):
        return texts.get(value, value)
    if isinstance(value, list):
        return [_filled(item, texts) for item in value]
    if isinstance(value, dict):
        return {name: _filled(item, texts) for name, item in value.items()}
    return value


def _variables(request: RunRequest, taken: Mapping[str, _Text]) -> Mapping[str, str]:
    """Return the variables; one that is called `content` or so may have been taken for a text."""
    env = dict(request.env)
    most = 6 * MAX_GIVEN_BYTES  # of JSON for one byte; a longer one need not be read to the end
    for name, value in request.env.items():
        if (text := taken.get(value)) is not None:
            env[name] = _unescaped(text, text.begin, text.end) if len(text) <= most else "x" * most
    if env != request.env:
        check_variables(env)
    return env


async def _excerpt(
    body: bytearray, fields: Container[bytes] | None = _LONG_FIELDS
) -> tuple[bytearray, dict[str, _Text]]:
    """Return a body without its long texts, and these by the marks in their place.

    `fields` are those that may have such texts; `None` means all.
    What comes after very many strings stays in the body.
    """
    rest, taken = bytearray(), dict[str, _Text]()
    kept = position = 0
    key = b""
    with memoryview(body) as whole:
        for number in range(MAX_TOKENS):
            if not (begin := body.find(b'"', position) + 1):
                break
            end = await _end_of_string(body, begin)
            if _COLON.match(body, end + 1):
                key = bytes(whole[begin : min(end, begin + _KEY_BYTES)])
            elif end - begin > _TAKEN_BYTES and (fields is None or key in fields):
                mark = f"{_MARK}{number}"
                rest += whole[kept:begin]
                rest += mark.encode()
                taken[mark] = _Text(body, begin, end)
                kept = end
            position = end + 1
            if number % _STRINGS_AT_ONCE == 0 or end - begin > _TAKEN_BYTES:
                await turn()
        rest += whole[kept:]
    return rest, taken


async def _end_of_string(body: bytearray, begin: int) -> int:
    end = begin
    for end in _ends(body, begin, len(body)):
        if end - begin >= PIECE_BYTES // 2:
            await turn()
    if body[end : end + 1] != b'"':
        await _string(_Text(body, begin, end))  # a fault before this one comes first
        try:
            from_json(b'"' + body[end : end + _ESCAPE_BYTES])
        except ValueError as error:
            raise _not_json(error, body, end) from None
    return end


def _ends(body: bytearray, begin: int, stop: int) -> Iterator[int]:
    """Yield the end of each piece of the string that begins at `begin`; the last is its own end.

    Only pieces with a backslash need the expression, which is slow.
    """
    end = -1
    while begin != end:
        end = begin
        most = min(begin + PIECE_BYTES, stop)
        quoted = body.find(b'"', begin, most)
        begin = most if quoted < 0 else quoted
        if body.find(b"\\", end, begin) >= 0:
            match = _INSIDE.match(body, end, min(most, end + _SLOW_BYTES))
            begin = match.end() if match else end
        yield begin


async def _string(text: _Text) -> str:
    """Return the string of a text in JSON."""
    parts: list[str] = []
    for begin, end in _pieces(text):
        await turn()
        parts.append(_unescaped(text, begin, end))
    return "".join(parts)


def _unescaped(text: _Text, begin: int, end: int) -> str:
    try:
        return str(from_json(b'"%b"' % bytes(text.body[begin:end])))
    except ValueError as error:
        raise _not_json(error, text.body, begin) from None


def _pieces(text: _Text) -> Iterator[tuple[int, int]]:
    """Yield where pieces of a text begin and end, which cut neither characters nor escapes."""
    begin, body = text.begin, text.body
    for end in _ends(body, begin, text.end):
        whole = end
        if end < text.end:
            last = max(begin, end - _LONGEST)
            whole = last + end_of_characters(bytes(body[last:end]))
        if whole > begin:
            yield begin, whole
        begin = whole


def _not_json(error: ValueError, body: bytearray, begin: int) -> RequestError:
    """Return the error of the string that goes on at `begin`, with its place in the body."""
    reason, _, place = str(error).rpartition(" at line ")
    line, column = map(int, place.split(" column "))
    if line == 1:  # the parser has seen a quote, and what comes after `begin`
        column += begin - 1 - (body.rfind(b"\n", 0, begin) + 1)
    line += body.count(b"\n", 0, begin)
    return not_json(f"{reason} at line {line} column {column}", body)


async def _decode(file: GivenFile, text: _Text, contents: Contents) -> bytearray:
    """Return the bytes of a file whose content is a string of JSON, as it stands in the body."""
    is_base64 = file.encoding == BASE64
    data, rest, padded = bytearray(), b"", False
    for begin, end in _pieces(text):
        await turn()
        piece = bytes(text.body[begin:end])
        if not is_base64 or b"\\" in piece:
            try:
                piece = str(from_json(b'"%b"' % piece)).encode()
            except ValueError:
                raise not_json(f"wrong text in {quote(file.name)}") from None
        if is_base64:
            rest += piece
            size = len(rest) if end == text.end else len(rest) // 4 * 4
            piece, rest = rest[:size], rest[size:]
            if padded and piece:
                raise not_base64(file)
            padded = piece.endswith(b"=")
            try:
                piece = _from_base64(piece)
            except ValueError:
                raise not_base64(file) from None
        data += piece
        contents.count(len(piece))
    return data


def _from_base64(text: bytes) -> bytes:
    """Return what `from_base64` does, and raise the same error."""
    if b"-" not in text and b"_" not in text and len(text) % 4 == 0:
        with contextlib.suppress(ValidationError):
            return bytes(_FAST_BASE64.validate_json(b'"%b"' % text))
    return from_base64(text)
