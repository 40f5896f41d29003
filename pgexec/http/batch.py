"""Answer a request with many inputs: a result for each, compared with what is expected."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import TYPE_CHECKING

from aiohttp import web
from pydantic_core import to_json

from pgexec.batch import Batch, Stopped
from pgexec.http.answering import render, run_snippet, with_fields
from pgexec.http.delivery import cut, deliver, held_bytes
from pgexec.http.errors import COME_BACK, JSON_HEADERS, RequestError, problem_of
from pgexec.http.output_files import list_files, render_files
from pgexec.http.record import GONE, RECORD, Record
from pgexec.settings.sizes import format_size
from pool.job import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pgexec.contract import RunRequest
    from pgexec.http.answering import Event
    from pgexec.http.delivery import Document
    from pgexec.http.routes import Context
    from pgexec.http.sse import EventStream
    from pgexec.http.texts import Lazy
    from pgexec.service import Progress
    from pool.job import OutputFile, Result

SHORT_BYTES = 64 << 10
"""A shorter answer is sent in one piece."""
THREAD_BYTES = 256 << 10
"""Longer outputs are compared in a thread, or other requests would wait."""


@dataclass(frozen=True, slots=True)
class Item:
    """What became of one input: a JSON object without its opening brace, and if it passed."""

    document: Document
    passed: bool


async def answer_batch(
    context: Context, request: web.Request, wanted: RunRequest
) -> web.StreamResponse:
    """Run the code for each input, and answer with one document.

    If nothing ran at all, this raises the error of the first input.
    """
    items: dict[int, Item] = {}
    held_size = 0

    def ended(number: int, item: Item) -> None:
        nonlocal held_size
        items[number] = item
        held_size += held_bytes(item.document)
        # Half of what a tenant may hold: what the runs in progress bring yet comes on top, and then
        # the budget must not drop the answer. While it grows, nobody makes it give way.
        if not held.resize(held_size) or held_size > context.answers.limit_bytes * 3 // 8:
            runs.batch.refuse(_too_much())

    with context.answers.hold(request[RECORD].holder) as held:
        runs = Runs(context, request, wanted, ended)
        end = await runs.all()
    parts: list[bytes | Lazy] = []
    for number in range(len(items)):
        parts += (b",{" if number else b'{"results":[{', *items[number].document)
    parts.append(b"]," + end[1:])
    if sum(map(len, parts)) <= SHORT_BYTES:
        return web.Response(body=b"".join(cut(parts)), headers=JSON_HEADERS)
    return await deliver(request, parts, context.answers)


async def answer_batch_events(
    context: Context, request: web.Request, wanted: RunRequest, stream: EventStream
) -> Sequence[Event]:
    """Run the code for each input, send each result as it comes, and return the last event."""

    def ended(number: int, item: Item) -> None:
        stream.send((b"result", (b'{"index":%d,' % number, *item.document)))

    end = await Runs(context, request, wanted, ended, stream).all()
    return ((b"end", (end,)),)


class Runs:
    """The runs of one request, each with a record of its own.

    `ended` is called with each item as it comes; not before something ran, or may have run.
    """

    def __init__(
        self,
        context: Context,
        request: web.Request,
        wanted: RunRequest,
        ended: Callable[[int, Item], None],
        progress: Progress | None = None,
    ) -> None:
        self._context = context
        self._request = request
        self._record = request[RECORD]
        self._wanted = wanted
        self._ended = ended
        self._stdins = wanted.stdins or []
        self._one = wanted.model_copy(update={"stdins": None, "expected": None})
        self._records: dict[int, Record] = {}
        self._collect_left = context.settings.collect_limit
        self._withheld: list[tuple[int, Item]] | None = []
        self._refusal: Exception | None = None
        self._passed: dict[int, bool] = {}
        self.batch = Batch(
            len(self._stdins),
            self._run,
            self._note,
            at_once=context.service.at_once(wanted.language, self._record.holder),
            patience_s=context.settings.lease_timeout_s,
            fails=None if wanted.stop_on is None else lambda item: not item.passed,
            progress=progress,
        )

    async def all(self) -> bytes:
        """Run all, and return the JSON object on the whole. Raises the error if nothing ran."""
        self._record.language = self._wanted.language
        try:
            await self.batch.run()
        finally:
            for record in self._records.values():  # of those that a cancellation has ended
                record.code, record.status = "client_gone", GONE
                self._context.reporter.ran(self._request, record)
        if self._withheld is not None and self._refusal is not None:
            raise self._refusal
        failed = [number for number, passed in self._passed.items() if not passed]
        return to_json(
            {
                "passed": len(self._passed) - len(failed),
                "first_failure": min(failed, default=None),
            }
        )

    async def _run(self, number: int, progress: Progress) -> Item:
        record = self._records.get(number)
        if record is None:
            parent = self._record
            record = Record(f"{parent.id}.{number}", tenant=parent.tenant, user=parent.user)
            self._records[number] = record
        wanted = self._one.model_copy(update={"stdin": self._stdins[number]})
        result, sentence = await run_snippet(self._context, record, wanted, progress)
        fields: list[bytes | Lazy] = []
        matches = True
        if self._wanted.expected is not None:
            matches = await _matches(result.stdout, self._wanted, number)
            fields.append(b',"matches":true' if matches else b',"matches":false')
        if wanted.collect:
            result = self._within_limit(result)
            fields += list_files(result, await render_files(result))
        first, *others = await render(result, sentence)
        if not isinstance(first, bytes):
            raise TypeError("the first part of an object is its beginning")
        document = with_fields((first[1:], *others), *fields)
        return Item(document, matches and result.status is Status.OK)

    def _note(self, number: int, outcome: Item | Exception) -> None:
        record = self._records.pop(number, None)
        ran = True
        if isinstance(outcome, Exception):
            item, code, status, ran = _without_result(outcome)
            if record is not None:
                record.code, record.status = code, status
        else:
            item = outcome
        if record is not None:
            self._context.reporter.ran(self._request, record)
            self._record.runs = (*self._record.runs, record)
        self._passed[number] = item.passed
        if self._withheld is None:
            self._ended(number, item)
            return
        self._withheld.append((number, item))
        if ran:
            withheld, self._withheld = self._withheld, None
            for one in withheld:
                self._ended(*one)
        elif isinstance(outcome, Exception) and self._refusal is None:
            self._refusal = outcome

    def _within_limit(self, result: Result) -> Result:
        """Leave out the contents of files that are over the limit of the whole batch."""
        files: list[OutputFile] = []
        for file in result.files:
            size = 0 if file.content is None else len(file.content)
            if size > self._collect_left:
                most = format_size(self._context.settings.collect_limit)
                reason = f"over the limit of {most} for all runs of the request together"
                files.append(replace(file, content=None, omitted=reason))
            else:
                self._collect_left -= size
                files.append(file)
        return replace(result, files=files)


async def _matches(stdout: bytes, wanted: RunRequest, number: int) -> bool:
    expected = (wanted.expected or [])[number].encode()
    if wanted.compare == "exact":
        return stdout == expected
    if len(stdout) + len(expected) <= THREAD_BYTES:
        return trimmed(stdout) == trimmed(expected)
    return await asyncio.to_thread(lambda: trimmed(stdout) == trimmed(expected))


def trimmed(text: bytes) -> bytes:
    """Return a text without ASCII white space at the end of each line, and of the whole."""
    return b"\n".join(line.rstrip() for line in text.rstrip().split(b"\n"))


def _without_result(error: Exception) -> tuple[Item, str, int, bool]:
    """Return the item of an input without a result, its code and status, and if it may have run."""
    fields: dict[str, object] = {"data": None, "error": str(error)}
    if isinstance(error, Stopped):
        fields |= {"code": "stopped", "status": "stopped", "http_status": 0}
        return Item((to_json(fields)[1:],), passed=False), "stopped", GONE, error.begun
    problem = problem_of(error)
    refused = problem.status in COME_BACK or problem.status < HTTPStatus.INTERNAL_SERVER_ERROR
    fields |= {
        "error": problem.sentence,
        "code": problem.code,
        "status": "refused" if refused else "lost",
        "http_status": problem.status,
    }
    if "Retry-After" in problem.headers:
        fields["retry_after_s"] = int(problem.headers["Retry-After"])
    return Item((to_json(fields)[1:],), passed=False), problem.code, problem.status, not refused


def _too_much() -> RequestError:
    return RequestError(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "too_many_bytes",
        "the results until here are as large as PGEXEC_BUFFER_LIMIT allows for one answer",
        Retry_After="1",
    )
