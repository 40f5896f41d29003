"""The client for threads."""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Self, TypeVar, Unpack

import httpx

from pgexec.client import wire
from pgexec.client.errors import RunRefused
from pgexec.client.events import EventReader

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from pgexec.client.batch import CompletedBatch
    from pgexec.client.events import RunEvent
    from pgexec.client.result import CompletedRun
    from pgexec.client.wire import BatchOptions, RunOptions

Answer = TypeVar("Answer")


class Client:
    """A client of one server; threads may share it.

    - `url` and `key`: the server and its API key, by default `PGEXEC_URL`, else port 8080 of this
      machine, and `PGEXEC_API_KEY`
    - `retry_within_s`: for so many seconds a request is sent again where the server says that
      nothing ran (429, 503)
    - `answer_within_s`: a server that is silent for longer, beside `timeout_s`, is given up
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        key: str | None = None,
        retry_within_s: float = wire.RETRY_WITHIN_S,
        answer_within_s: float = wire.ANSWER_WITHIN_S,
    ) -> None:
        self._http = httpx.Client(**wire.http_options(url, key))
        self._retry_within_s = retry_within_s
        self._answer_within_s = answer_within_s

    def run(self, code: str, **options: Unpack[RunOptions]) -> CompletedRun:
        """Run a snippet and return its result, whatever it did.

        Raises `RunRefused` if nothing ran, `RunLost` if it may have run, and `OSError` for a file
        that cannot be read.
        """
        timeout = wire.timeout_of(options, self._answer_within_s)
        return self._post(wire.body_of(code, options), timeout, wire.result_of)

    def run_many(
        self, code: str, stdins: Sequence[str], **options: Unpack[BatchOptions]
    ) -> CompletedBatch:
        """Run a snippet once for each of many inputs, and return what became of each.

        With `expected`, the texts that each run should write, the runs tell if they match. Raises
        as `run` does; an error of one input is no exception, but is in its place in the batch.
        """
        timeout = wire.timeout_of(options, self._answer_within_s, len(stdins))
        body = wire.body_of(code, options, stdins)
        return self._post(body, timeout, wire.batch_of)

    def _post(
        self, body: bytes, limits: httpx.Timeout, read: Callable[[httpx.Response], Answer]
    ) -> Answer:
        patience = wire.Patience(self._retry_within_s)
        while True:
            try:
                return read(self._http.post("/run", content=body, timeout=limits))
            except httpx.HTTPError as error:
                raise wire.transport_failure(error) from error
            except RunRefused as refusal:
                time.sleep(patience.wait_s(refusal))

    def stream(self, code: str, **options: Unpack[RunOptions]) -> Generator[RunEvent, None, None]:
        """Run a snippet and yield what happens as it happens; the last event is the result.

        To close the generator ends the run. Raises as `run` does.
        """
        body, patience = wire.body_of(code, options), wire.Patience(self._retry_within_s)
        timeout = wire.timeout_of(options, self._answer_within_s)
        while True:
            reader = EventReader()
            try:
                with self._http.stream(
                    "POST", "/run", content=body, timeout=timeout, headers=wire.STREAM
                ) as response:
                    if response.status_code != HTTPStatus.OK:
                        response.read()
                        wire.result_of(response)
                    for data in response.iter_bytes():
                        yield from reader.feed(data)
                reader.end()
            except httpx.HTTPError as error:
                raise wire.transport_failure(error) from error
            except RunRefused as refusal:
                time.sleep(patience.wait_s(refusal))
            else:
                return

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
