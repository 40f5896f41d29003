"""The record of one request: its id, and the facts known until its answer."""

from __future__ import annotations

import itertools
import logging
import secrets
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING

from aiohttp import web

from pgexec.http.errors import problem_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pgexec.http.errors import Problem
    from pgexec.service import Timings
    from pool.job import Result

    Answered = Callable[[web.BaseRequest, web.StreamResponse], None]

logger = logging.getLogger("pgexec.request")

NAME_HEADER = "X-Pgexec-Server"
MAX_ID_CHARS = 128
GONE = 499
"""nginx's number for a client that did not wait for its answer."""

_process = secrets.token_hex(6)
_numbers = itertools.count(1)


@dataclass(slots=True)
class Sender:
    """The server as its answers show it: its name, if it has one.

    From the signal to stop on, `leaving` is true.
    """

    name: str = ""
    leaving: bool = False


SENDER = web.AppKey("sender", Sender)
LEAVING = "the server is about to stop"


@dataclass(slots=True)
class Record:
    """A request's id and, once they are known, its tenant, its run and its error's code.

    `status` is how the request ended, if the answer's own status had been sent before. `runs` has
    the records of a request with many inputs. `began` is a
    time of `time.perf_counter`: uvloop's clock ticks in milliseconds.
    """

    id: str
    tenant: str = ""
    user: str = ""
    language: str = ""
    timings: Timings | None = None
    result: Result | None = None
    code: str | None = None
    status: int | None = None
    runs: Sequence[Record] = ()
    began: float = field(default_factory=time.perf_counter)

    @property
    def holder(self) -> str:
        """The tenant in the pool's books: the key's name, and behind `/` its user, if it has one.

        The name of a key has no `/` in it, so that no two are the same.
        """
        return f"{self.tenant}/{self.user}" if self.user else self.tenant

    def sign(self, response: web.StreamResponse, sender: Sender) -> None:
        """Put the request's id, the times of its steps until now, and its sender on an answer.

        Its connection ends with it if the server is leaving.
        """
        headers = response.headers
        if sender.leaving:
            response.force_close()
            headers["Connection"] = "close"  # aiohttp leaves it out of HTTP/1.0
        headers["X-Request-ID"] = self.id
        if sender.name:
            headers[NAME_HEADER] = sender.name
        headers["Server-Timing"] = ", ".join(
            f"{name};dur={seconds * 1000:.3f}"
            for name, seconds in self.times(time.perf_counter() - self.began)
        )

    def times(self, total_s: float) -> Iterator[tuple[str, float]]:
        """Yield each step that happened, and its seconds; see `Timings`."""
        if (timings := self.timings) is not None:
            if timings.queue_s is not None:
                yield "queue", timings.queue_s
            if timings.start_s is not None:
                yield "start", timings.start_s
            if timings.install_s is not None:
                yield "install", timings.install_s
            if timings.lease_s is not None:
                yield "lease", timings.lease_s
            if timings.run_s is not None:
                yield "run", timings.run_s
        yield "total", total_s

    def fail(self, error: BaseException) -> Problem:
        """Return the answer to an error, and note its code. Log an error that is a bug of ours."""
        problem = problem_of(error)
        self.code = problem.code
        if problem.status == HTTPStatus.INTERNAL_SERVER_ERROR:
            fields = {"request_id": self.id}
            logger.error("unexpected error", exc_info=error, extra={"fields": fields})
        return problem


RECORD = web.RequestKey("record", Record)


def request_id(sent: str | None) -> str:
    """Return the client's id if it is short and printable ASCII, else a new one."""
    if sent and len(sent) <= MAX_ID_CHARS and sent.isascii() and sent.isprintable():
        return sent
    return f"{_process}-{next(_numbers):x}"
