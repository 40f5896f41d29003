"""Read a request's body, within a limit and a time, and check it before it is parsed."""

from __future__ import annotations

import asyncio
import re
from functools import lru_cache
from http import HTTPStatus
from sys import getsizeof
from typing import TYPE_CHECKING

from aiohttp import HttpVersion11
from aiohttp.helpers import parse_mimetype
from aiohttp.web_protocol import RequestPayloadError

from pgexec.http.budget import FREE_BYTES
from pgexec.http.errors import RequestError
from pgexec.settings.sizes import format_size

if TYPE_CHECKING:
    from aiohttp import web

    from pgexec.contract import RunRequest
    from pgexec.http.budget import Held

SMALL_BYTES = 8 << 10
"""Bodies up to this size are parsed without a check: this never takes long."""
MAX_COMMAS = 4096
"""The limit on commas outside of strings: a request has one for each field, and for each item of
one. So many values are parsed in a millisecond."""

# All quantifiers are possessive, and each match begins at the end of the last: so the time is
# linear in the body's length.
_TOKEN = re.compile(rb'[^",]*+("[^"\\]*+(?:\\.[^"\\]*+)*+"|,)', re.DOTALL)
MAX_TOKENS = 4 * MAX_COMMAS + 512


def check_json(request: web.Request) -> None:
    """Refuse, by `RequestError` 415, a body that is not JSON in plain UTF-8."""
    headers = request.headers
    if not _is_json(headers.get("Content-Type", "")):
        raise RequestError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "not_json",
            "the Content-Type must be application/json, in UTF-8",
        )
    encoding = headers.get("Content-Encoding")
    if encoding and encoding.lower() != "identity":
        raise RequestError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "encoded_body",
            "the body must be sent without a Content-Encoding",
        )


@lru_cache(maxsize=64)
def _is_json(content_type: str) -> bool:
    mime = parse_mimetype(content_type)
    charset = mime.parameters.get("charset", "utf-8").lower()
    return (mime.type, mime.subtype, mime.suffix) == ("application", "json", "") and charset in (
        "utf-8",
        "utf8",
    )


def small_body(request: web.Request) -> bytes | None:
    """Return a short body that came with its head, else `None`.

    Such a body needs no timer, no `await`, and no account in the budget.
    """
    content = request.content
    if content.is_eof() and content.total_bytes <= FREE_BYTES and content.exception() is None:
        whole: bytes = content.read_nowait(-1)
        return whole
    return None


async def read_body(
    request: web.Request, limit_bytes: int, timeout_s: float, held: Held
) -> bytearray:
    """Return the body. First send `100 Continue` if the client waits for it.

    The body counts as `held` while it comes, and may have to give way. Raises `RequestError`: 413
    over `limit_bytes`, 408 after `timeout_s`, 503 if there is no room for it, 400 if it breaks off.
    """
    try:
        return await _read(request, limit_bytes, timeout_s, held)
    except RequestPayloadError as error:
        raise RequestError(HTTPStatus.BAD_REQUEST, "bad_request", str(error)) from error


async def _read(request: web.Request, limit_bytes: int, timeout_s: float, held: Held) -> bytearray:
    if (request.content_length or 0) > limit_bytes:
        raise too_large(limit_bytes)
    if request.version >= HttpVersion11 and "Expect" in request.headers:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await request.writer.drain()
        request.writer.output_size = 0  # `100 Continue` is not a part of the answer
    body = bytearray()
    try:
        async with asyncio.timeout(timeout_s) as deadline:
            held.drop = lambda: deadline.reschedule(0)
            while chunk := await request.content.readany():
                body += chunk
                if len(body) > limit_bytes:
                    raise too_large(limit_bytes)
                if not held.resize(len(body)):
                    raise _too_much()
    except TimeoutError as error:
        if held.dropped:
            raise _too_much() from error
        sentence = f"the body did not arrive within {timeout_s:g} s"
        raise RequestError(HTTPStatus.REQUEST_TIMEOUT, "request_timeout", sentence) from error
    finally:
        held.drop = None  # the body is there: from now on the request waits for the pool only
    return body


def keep(held: Held, request: RunRequest) -> None:
    """Count the code, stdin and files of a request, while its run waits and runs.

    Raises `RequestError` 503 if there is no room for them.
    """
    # Each text is held twice: as it was parsed, and as the bytes of the job.
    texts = 2 * (getsizeof(request.code) + getsizeof(request.stdin))
    texts += sum(map(getsizeof, (*(request.stdins or ()), *(request.expected or ()))))
    if not held.resize(texts + sum(len(file.content) for file in request.files)):
        raise _too_much()


def _too_much() -> RequestError:
    return RequestError(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "too_many_bytes",
        "the server holds as much of its clients' requests as PGEXEC_BUFFER_LIMIT allows: send the "
        "body at once, or later",
        Retry_After="1",
    )


def too_large(limit_bytes: int) -> RequestError:
    """Return the error of a body over its limit."""
    return RequestError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "body_too_large",
        f"the body is over the limit of {format_size(limit_bytes)}",
    )


def cut(body: bytes | bytearray) -> bytes | bytearray | None:
    """Return the part of a body before the first comma too many, or `None` if there is none.

    To parse 12 MB of small values takes a second and hundreds of megabytes, and every other request
    waits meanwhile. So a body of millions of values is refused unread.
    """
    if len(body) <= SMALL_BYTES:
        return None
    commas = position = 0
    # So many strings with so few commas are not JSON: the parser will soon stop by itself.
    for _ in range(MAX_TOKENS):
        token = _TOKEN.match(body, position)
        if token is None:
            return None
        position = token.end()
        if body[position - 1] == ord(","):
            commas += 1
            if commas > MAX_COMMAS:
                return body[: position - 1]
    return None
