"""The client for asyncio; line by line what `synchronous` has."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING, Self, TypeVar, Unpack

import httpx

from pgexec.client import wire
from pgexec.client.errors import RunRefused
from pgexec.client.events import EventReader

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from pgexec.client.batch import CompletedBatch
    from pgexec.client.events import RunEvent
    from pgexec.client.result import CompletedRun
    from pgexec.client.wire import BatchOptions, RunOptions

Answer = TypeVar("Answer")


class AsyncClient:
    """A client of one server; tasks of one event loop may share it.

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
        self._http = httpx.AsyncClient(**wire.http_options(url, key))
        self._retry_within_s = retry_within_s
        self._answer_within_s = answer_within_s

    async def run(self, code: str, **options: Unpack[RunOptions]) -> CompletedRun:
        """Run a snippet and return its result, whatever it did. A cancellation ends the run.

        Raises `RunRefused` if nothing ran, `RunLost` if it may have run, and `OSError` for a file
        that cannot be read.
        """
        timeout = wire.timeout_of(options, self._answer_within_s)
        return await self._post(wire.body_of(code, options), timeout, wire.result_of)

    async def run_many(
        self, code: str, stdins: Sequence[str], **options: Unpack[BatchOptions]
    ) -> CompletedBatch:
        """Run a snippet once for each of many inputs, and return what became of each.

        With `expected`, the texts that each run should write, the runs tell if they match. Raises
        as `run` does; an error of one input is no exception, but is in its place in the batch.
        """
        timeout = wire.timeout_of(options, self._answer_within_s, len(stdins))
        body = wire.body_of(code, options, stdins)
        return await self._post(body, timeout, wire.batch_of)

    async def _post(
        self, body: bytes, limits: httpx.Timeout, read: Callable[[httpx.Response], Answer]
    ) -> Answer:
        patience = wire.Patience(self._retry_within_s)
        while True:
            try:
                return read(await self._http.post("/run", content=body, timeout=limits))
            except httpx.HTTPError as error:
                raise wire.transport_failure(error) from error
            except RunRefused as refusal:
                await asyncio.sleep(patience.wait_s(refusal))

    async def stream(
        self, code: str, **options: Unpack[RunOptions]
    ) -> AsyncGenerator[RunEvent, None]:
        """Run a snippet and yield what happens as it happens; the last event is the result.

        To close the generator ends the run. Raises as `run` does.
        """
        body, patience = wire.body_of(code, options), wire.Patience(self._retry_within_s)
        timeout = wire.timeout_of(options, self._answer_within_s)
        while True:
            reader = EventReader()
            try:
                async with self._http.stream(
                    "POST", "/run", content=body, timeout=timeout, headers=wire.STREAM
                ) as response:
                    if response.status_code != HTTPStatus.OK:
                        await response.aread()
                        wire.result_of(response)
                    async for data in response.aiter_bytes():
                        for event in reader.feed(data):
                            yield event
                reader.end()
            except httpx.HTTPError as error:
                raise wire.transport_failure(error) from error
            except RunRefused as refusal:
                await asyncio.sleep(patience.wait_s(refusal))
            else:
                return

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
