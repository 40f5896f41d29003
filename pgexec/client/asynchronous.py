"""The client for asyncio; line by line what `synchronous` has."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
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
    from pgexec.client.wire import BatchOptions, CellOptions, RunOptions, SessionOptions

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
        return await self._post("/run", wire.body_of(code, options), timeout, wire.result_of)

    async def run_many(
        self, code: str, stdins: Sequence[str], **options: Unpack[BatchOptions]
    ) -> CompletedBatch:
        """Run a snippet once for each of many inputs, and return what became of each.

        With `expected`, the texts that each run should write, the runs tell if they match. Raises
        as `run` does; an error of one input is no exception, but is in its place in the batch.
        """
        timeout = wire.timeout_of(options, self._answer_within_s, len(stdins))
        body = wire.body_of(code, options, stdins)
        return await self._post("/run", body, timeout, wire.batch_of)

    async def _post(
        self,
        path: str,
        body: bytes,
        limits: httpx.Timeout,
        read: Callable[[httpx.Response], Answer],
    ) -> Answer:
        patience = wire.Patience(self._retry_within_s)
        while True:
            try:
                return read(await self._http.post(path, content=body, timeout=limits))
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
        events = self._stream("/run", wire.body_of(code, options), options.get("timeout_s"))
        async with aclosing(events):
            async for event in events:
                yield event

    async def session(self, **options: Unpack[SessionOptions]) -> AsyncSession:
        """Begin a session, whose runs see what earlier ones left. `async with` ends it.

        Raises as `run` does.
        """
        timeout = wire.timeout_of({}, self._answer_within_s)
        body = wire.session_body_of(options)
        return self.resume(await self._post("/sessions", body, timeout, wire.session_id_of))

    def resume(self, session_id: str) -> AsyncSession:
        """Return the session with an id, which is not asked for: its runs tell if it is there."""
        return AsyncSession(self, session_id)

    async def _stream(
        self, path: str, body: bytes, timeout_s: float | None
    ) -> AsyncGenerator[RunEvent, None]:
        patience = wire.Patience(self._retry_within_s)
        timeout = wire.timeout_of({"timeout_s": timeout_s or 0}, self._answer_within_s)
        while True:
            reader = EventReader()
            try:
                async with self._http.stream(
                    "POST", path, content=body, timeout=timeout, headers=wire.STREAM
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


class AsyncSession:
    """A session on the server, by its `id`: each run sees what earlier ones left.

    `async with` ends it. Every method raises `RunRefused` with the status 404 if there is no such
    session, with 410 if it has ended, and with 409 while another run is in progress.
    """

    def __init__(self, client: AsyncClient, session_id: str) -> None:
        self.id = session_id
        self._client = client
        self._path = wire.session_path(session_id)

    async def run(self, code: str, **options: Unpack[CellOptions]) -> CompletedRun:
        """Run a cell and return its result, as `AsyncClient.run` does.

        A cancellation interrupts it.
        """
        timeout = wire.timeout_of(options, self._client._answer_within_s)
        body = wire.cell_body_of(code, options)
        return await self._client._post(f"{self._path}/run", body, timeout, wire.result_of)

    def stream(self, code: str, **options: Unpack[CellOptions]) -> AsyncGenerator[RunEvent, None]:
        """Run a cell and yield what happens as it happens, as `AsyncClient.stream` does."""
        body = wire.cell_body_of(code, options)
        return self._client._stream(f"{self._path}/run", body, options.get("timeout_s"))

    async def end(self) -> None:
        """End the session; its container is destroyed."""
        timeout = wire.timeout_of({}, self._client._answer_within_s)
        try:
            wire.check_ended(await self._client._http.delete(self._path, timeout=timeout))
        except httpx.HTTPError as error:
            raise wire.transport_failure(error) from error

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        with suppress(RunRefused):  # it has ended already
            await self.end()
