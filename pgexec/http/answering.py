"""Run the snippet of a request, and render its answer: one document, or events."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from pgexec.http.answers import (
    LONG_BYTES,
    describe,
    render_long,
    render_result,
    size_bytes,
    without_output,
)
from pgexec.http.delivery import abort
from pgexec.http.output_files import list_files, render_files
from pgexec.service import Timings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from aiohttp import web

    from pgexec.contract import RunRequest
    from pgexec.http.delivery import Document
    from pgexec.http.record import Record
    from pgexec.http.routes import Context
    from pgexec.http.texts import Lazy
    from pgexec.service import Progress
    from pool.job import Result

    Event = tuple[bytes, Document]
    """The name of an event, and its data."""


async def run_snippet(
    context: Context, record: Record, wanted: RunRequest, progress: Progress | None = None
) -> tuple[Result, str | None]:
    """Run a snippet; return its result, and the sentence on its end."""
    record.language, timings = wanted.language, Timings()
    record.timings = timings
    limits = context.limits_of[wanted.language].of_run(wanted)
    result = await context.service.run(wanted, limits.timeout_s, record.holder, timings, progress)
    record.result = without_output(result)
    return result, describe(result, limits)


async def answer(
    context: Context, request: web.Request, record: Record, wanted: RunRequest
) -> Document:
    """Run a snippet and return the JSON document of its result, in parts."""
    result, sentence = await run_snippet(context, record, wanted)
    if len(result.data) <= LONG_BYTES and not wanted.collect:
        return (render_result(result, sentence),)
    with _holding(context, request, record, result):
        document = await render(result, sentence)
        if not wanted.collect:
            return document
        return with_fields(document, *list_files(result, await render_files(result)))


async def answer_events(
    context: Context, request: web.Request, record: Record, wanted: RunRequest, progress: Progress
) -> Sequence[Event]:
    """Run a snippet, tell `progress`, and return the last events: its files and the result.

    The result has only the names of the files.
    """
    result, sentence = await run_snippet(context, record, wanted, progress)
    if len(result.data) <= LONG_BYTES and not wanted.collect:
        return ((b"result", (render_result(result, sentence),)),)
    with _holding(context, request, record, result):
        document = await render(result, sentence)
        if not wanted.collect:
            return ((b"result", document),)
        files = [(b"file", file) for file in await render_files(result)]
    return (*files, (b"result", with_fields(document, *list_files(result, None))))


@contextlib.contextmanager
def _holding(
    context: Context, request: web.Request, record: Record, result: Result
) -> Iterator[None]:
    """Count a result while its answer is made; then the answer counts itself."""
    with context.answers.hold(record.holder, lambda: abort(request)) as held:
        held.resize(size_bytes(result))
        yield


async def render(result: Result, sentence: str | None) -> Document:
    """Return the JSON document of a result without its files; its first and last part are bytes."""
    if len(result.data) <= LONG_BYTES:
        return (render_result(result, sentence),)
    return await render_long(result, sentence)


def with_fields(document: Document, *fields: bytes | Lazy) -> Document:
    """Return a JSON object with further fields, which begin with a comma."""
    *parts, last = document
    if not isinstance(last, bytes):
        raise TypeError("the last part of an object is its end")
    return (*parts, last[:-1], *fields, b"}")
