"""Parse a long body in pieces: its files are taken out before the rest is parsed.

To parse and decode 16 MiB of files at once would block the event loop for a tenth of a second. So
the body is searched for the files' contents, a piece at a time. The rest is parsed as ever, with a
mark in the place of each content. Then each content is decoded from the body, a piece at a time.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from typing import TYPE_CHECKING

from pydantic_core import from_json

from pgexec.http.body import MAX_TOKENS, too_large
from pgexec.http.errors import RequestError
from pgexec.http.files import BASE64, Contents, from_base64, not_base64
from pgexec.http.parsing import parse_run
from pgexec.http.refusals import BAD, quote
from pgexec.http.surroundings import MAX_GIVEN_BYTES, check_variables
from pool.output import end_of_characters

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pgexec.contract import GivenFile, RunRequest
    from pgexec.http.limits import RequestLimits

LONG_BYTES = 256 << 10
"""Longer bodies with files are parsed in pieces."""
PIECE_BYTES = 128 << 10
_TAKEN_BYTES = 16 << 10
"""Longer contents are taken out of a body."""
_STRINGS_AT_ONCE = 1000
_KEY_BYTES = 64

_MARK = secrets.token_hex(16)
"""Stands for a content, with a number. A client that knew it could name a content twice."""
_INSIDE = re.compile(
    rb'[^"\\]*+(?:\\(?:u[dD][89abAB]..\\u....|u(?![dD][89abAB])....|[^u])[^"\\]*+)*+', re.DOTALL
)
"""The inside of a string; it ends before a half of an escape or of a surrogate pair. All
quantifiers are possessive, as those of `pgexec/http/body.py`."""
_BEFORE_CONTENT = re.compile(rb'"content"\s*:\s*"\Z')


async def parse_body(body: bytearray, limits: RequestLimits) -> RunRequest:
    """Return the request in a body of any length. Raises the errors of `parse_run`."""
    if len(body) <= LONG_BYTES or b'"files"' not in body:
        if len(body) > limits.plain_body_bytes:
            raise too_large(limits.plain_body_bytes)
        return parse_run(body, limits)
    excerpt = _Excerpt(body)
    await excerpt.make()
    if len(excerpt.rest) > limits.plain_body_bytes:
        raise too_large(limits.plain_body_bytes)
    contents = Contents(limits.files_limit_bytes)
    request = parse_run(excerpt.rest, limits, contents, excerpt.taken)
    files = [
        file.model_copy(update={"content": await _decode(file, part, contents)})
        if isinstance(file.content, str) and (part := excerpt.taken.get(file.content))
        else file
        for file in request.files
    ]
    return request.model_copy(update={"files": files, "env": _variables(request, excerpt.taken)})


def _variables(request: RunRequest, taken: Mapping[str, memoryview]) -> Mapping[str, str]:
    """Return the variables; one that is called `content`, too, may have been taken for a file."""
    part = taken.get(request.env.get("content", ""))
    if part is None:
        return request.env
    most = 6 * MAX_GIVEN_BYTES  # of JSON for one byte; a longer one need not be read to the end
    value = _unescaped(bytes(part), "content").decode() if len(part) <= most else "x" * most
    env = {**request.env, "content": value}
    check_variables(env)
    return env


class _Excerpt:
    """The `rest` of a body without its files' contents, and those that were `taken`, by marks."""

    def __init__(self, body: bytearray) -> None:
        self.rest = bytearray()
        self.taken: dict[str, memoryview] = {}
        self._body = memoryview(body)
        self._find = body.find

    async def make(self) -> None:
        """Take the contents out. What comes after very many strings stays in the rest."""
        kept = position = 0
        for number in range(MAX_TOKENS):
            if not (begin := self._find(b'"', position) + 1):
                break
            end = await self._end_of_string(begin)
            before = self._body[max(0, begin - _KEY_BYTES) : begin]
            if end - begin > _TAKEN_BYTES and _BEFORE_CONTENT.search(before):
                mark = f"{_MARK}{number}"
                self.rest += self._body[kept:begin]
                self.rest += mark.encode()
                self.taken[mark] = self._body[begin:end]
                kept = end
            position = end + 1
            if number % _STRINGS_AT_ONCE == 0:
                await asyncio.sleep(0)
        self.rest += self._body[kept:]

    async def _end_of_string(self, begin: int) -> int:
        end = begin
        for end in _ends(self._body, begin):
            if end - begin >= PIECE_BYTES // 2:
                await asyncio.sleep(0)
        if bytes(self._body[end : end + 1]) != b'"':
            reason = "a string has no end, or a wrong escape"
            raise RequestError(BAD, "invalid_json", f"the body is not valid JSON: {reason}")
        return end


def _ends(data: memoryview, begin: int) -> Iterator[int]:
    """Yield the end of each piece of the string that begins at `begin`; the last is its own end."""
    end = -1
    while begin != end:
        end = begin
        match = _INSIDE.match(data, begin, begin + PIECE_BYTES)
        begin = match.end() if match else begin
        yield begin


async def _decode(file: GivenFile, content: memoryview, contents: Contents) -> bytearray:
    """Return the bytes of a file whose content is a string of JSON, as it stands in the body."""
    is_base64 = file.encoding == BASE64
    data, begin = bytearray(), 0
    raw = rest = b""
    padded = False
    for end in _ends(content, 0):
        raw += content[begin:end]
        begin, last = end, end == len(content)
        size = len(raw) if last else end_of_characters(raw)
        text, raw = raw[:size], raw[size:]
        if not is_base64 or b"\\" in text:
            text = _unescaped(text, file.name)
        if is_base64:
            rest += text
            size = len(rest) if last else len(rest) // 4 * 4
            text, rest = rest[:size], rest[size:]
            if padded and text:
                raise not_base64(file)
            padded = text.endswith(b"=")
            try:
                text = from_base64(text)
            except ValueError:
                raise not_base64(file) from None
        data += text
        contents.count(len(text))
        await asyncio.sleep(0)
    return data


def _unescaped(text: bytes, name: str) -> bytes:
    try:
        return str(from_json(b'"%b"' % text)).encode()
    except ValueError:
        sentence = f"the body is not valid JSON: wrong text in {quote(name)}"
        raise RequestError(BAD, "invalid_json", sentence) from None
