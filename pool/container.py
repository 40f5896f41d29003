"""One warm container: its states, its stream, `run()` and `reset()`."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from dataclasses import replace
from enum import Enum
from typing import TYPE_CHECKING

from pool.ceiling import Ceiling
from pool.collected import Collected
from pool.engine.cleanup import see_through, until_removed
from pool.errors import (
    ContainerLost,
    EngineError,
    LayerMissing,
    NoRoom,
    NotWritten,
    PoolError,
    PreimportRefused,
    RunnerProtocolError,
)
from pool.inside.protocol import (
    BETWEEN_BYTES,
    INTERRUPT,
    Decoder,
    Ending,
    Exit,
    FrameError,
    Kind,
    Step,
    decode_exit,
    encode,
)
from pool.job import ResetReport
from pool.output import HeardOutput, Output
from pool.request import encode_request, shown_limit_bytes
from pool.shown import ShownParts
from pool.turns import turn

if TYPE_CHECKING:
    from collections.abc import Callable

    from pool.engine.api import CreateDocument, Engine, Stream
    from pool.job import Job, Result
    from pool.output import OnOutput

MAX_PAYLOAD_BYTES = 1 << 20
PIECE_BYTES = 256 << 10
TURN_BYTES = 32 << 10
"""So much of what a container says is taken in one round of the event loop, or a little more."""
FILES_S = 30.0
"""A run with input files may take so many seconds longer."""
CELL_S = 15.0
"""A cell of a session may take so many seconds longer: it is interrupted first."""
GRACE_S = 5.0
"""The runner may report the end of a run so many seconds after the snippet's own time limit."""


class State(Enum):
    """The states of a container, from the engine's `create` to its removal."""

    STARTING = "starting"
    IDLE = "idle"
    LEASED = "leased"
    SESSION = "session"
    RESETTING = "resetting"
    DESTROYING = "destroying"


class Container:
    """A container whose runner is connected.

    The pool owns `state`, `tenant`, `uses` and `outdated`.
    """

    def __init__(self, engine: Engine, container_id: str, stream: Stream, ceiling: Ceiling) -> None:
        self.id = container_id
        self.state = State.STARTING
        self.tenant: str | None = None
        self.uses = 0
        self.outdated = False
        self.started_at = self.idle_since = 0.0  # of the pool's clock
        self.start_s = 0.0
        self.on_lost: Callable[[Container], None] | None = None
        self.runner: dict[str, object] = {}
        self._engine = engine
        self._stream = stream
        self._ceiling = ceiling
        self._run = 0
        self._output = _NOTHING
        self._room = 0
        self._collected: Collected | None = None
        self._shown: ShownParts | None = None
        self._answer: asyncio.Future[Exit] | None = None
        self._report: asyncio.Future[ResetReport] | None = None
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._failure: PoolError | None = None
        self._reader = asyncio.create_task(self._read(), name=f"read {container_id[:12]}")

    def __repr__(self) -> str:
        return f"<Container {self.id[:12]} {self.state.value} uses={self.uses}>"

    @classmethod
    async def start(
        cls, engine: Engine, document: CreateDocument, *, timeout_s: float = 30.0
    ) -> Container:
        """Start a container and wait until its runner reports READY.

        Raises `EngineError`, `PreimportRefused` or `RunnerProtocolError`. After a failure or a
        cancellation it first removes the container; this takes long if the engine hangs.
        """
        try:
            async with asyncio.timeout(timeout_s):
                container = cls(engine, *await engine.start(document), Ceiling.of(document))
                try:
                    await container._ready
                except BaseException:
                    await see_through(until_removed(container.id, container.destroy))
                    raise
        except TimeoutError as error:
            message = f"the container was not ready within {timeout_s:g} s"
            raise ContainerLost(f"{message}; PGEXEC_START_TIMEOUT_S gives it more") from error
        return container

    @property
    def lost(self) -> bool:
        """True if the stream has ended: nothing can run here any more."""
        return self._failure is not None

    async def run(self, job: Job, on_output: OnOutput | None = None) -> Result:
        """Run a snippet and return its result.

        `on_output` is also called with each piece of output as it comes, in whole characters where
        they are UTF-8; it must not raise.

        Raises `ContainerLost` if the container ends meanwhile, `LayerMissing` if the job's layer
        is not there, `RunnerProtocolError` if the runner breaks the protocol or is silent for
        `GRACE_S` past the snippet's time limit. `begun` is true in all of these but `LayerMissing`,
        unless the container was lost before. After an error or a cancellation the caller must
        destroy the container: the snippet may still be running.
        """
        if self._failure is not None:
            raise self._failure
        if self._answer is not None:
            raise RuntimeError("a container runs one job at a time")
        try:
            return await self._attempt(job, on_output)
        except (LayerMissing, NoRoom, NotWritten):
            raise
        except PoolError as error:
            # Not only once the job is written: a write that fails may have sent all of it.
            error.begun = True
            raise

    async def _attempt(self, job: Job, on_output: OnOutput | None) -> Result:
        self._run += 1
        output = self._output = Output() if on_output is None else HeardOutput(on_output)
        self._room = job.output_limit_bytes
        self._room += BETWEEN_BYTES if job.step is Step.CELL else 0
        loop = asyncio.get_running_loop()
        self._report = loop.create_future()
        self._answer = loop.create_future()
        self._collected = Collected(job) if job.collect else None
        self._shown = ShownParts(shown_limit_bytes(job)) if job.step is Step.CELL else None
        frame, heads = encode_request(job, self._run)
        wait_s = job.timeout_s + GRACE_S + (FILES_S if job.files or job.collect else 0)
        wait_s += CELL_S if job.step is Step.CELL else 0
        began = time.time()
        try:
            async with asyncio.timeout(wait_s):
                await self._stream.write(frame)
                for head, file in zip(heads, job.files, strict=True):
                    await self._send(head, file.content)
                ending = await self._answer
        except TimeoutError as error:
            message = f"the runner did not answer within {wait_s:g} s"
            raise RunnerProtocolError(message) from error
        except ContainerLost:
            if not self._in_gvisor or not await self._ran_out_of_memory(began):
                raise
            ending = self._starved(time.time() - began)
        finally:
            self._answer = None
            collected, self._collected = self._collected, None
            shown, self._shown = self._shown, None
            # The reader's traceback keeps a destroyed container alive until the collector runs.
            # Without this line it would keep the last run's output alive, too.
            self._output = _NOTHING
        _see_that_it_ran(ending, job)
        if self._looks_starved(ending) and await self._ran_out_of_memory(began):
            ending = ending._replace(ending=Ending.MEMORY_LIMIT, oom_killed=True)
        result = output.result(self._ceiling.bound(ending, job.timeout_s + GRACE_S))
        if collected is not None:
            files, omitted = collected.result()
            result = replace(result, files=files, files_omitted=omitted)
        if shown is None:
            return result
        showing = shown.result()
        return replace(result, shown=showing, truncated=result.truncated or showing.cut)

    async def interrupt(self) -> None:
        """Let the cell that runs now end: by KeyboardInterrupt, or by a kill if it ignores that.

        Raises `ContainerLost`. Does nothing if no run is in progress.
        """
        if self._answer is not None and not self._answer.done():
            await self._stream.write(encode(Kind.INTERRUPT, INTERRUPT.pack(self._run)))

    async def _send(self, head: bytes, content: bytes | bytearray) -> None:
        """Send one file in pieces, none of which is copied."""
        await self._stream.write(head)
        with memoryview(content) as whole:
            for start in range(0, len(whole), PIECE_BYTES):
                await self._stream.write(whole[start : start + PIECE_BYTES])

    @property
    def _in_gvisor(self) -> bool:
        """True if memory that runs out ends a process, or all of them, without a word."""
        return self.runner.get("gvisor") is True

    def _looks_starved(self, ending: Exit) -> bool:
        """Return True if a process ended as gVisor ends it: with status 1, and saying nothing."""
        if not self._in_gvisor or ending.exception or ending.ending is not Ending.EXITED:
            return False
        return ending.status == 1 and ending.peak_memory_bytes > self._ceiling.memory_bytes // 2

    def _starved(self, duration_s: float) -> Exit:
        """Return the end of a run over which the whole sandbox died for lack of memory."""
        return Exit(
            self._run,
            Ending.MEMORY_LIMIT,
            -signal.SIGKILL,
            truncated=False,
            duration_us=round(duration_s * 1e6),
            cpu_us=0,
            peak_memory_bytes=self._ceiling.memory_bytes,
            oom_killed=True,
        )

    async def _ran_out_of_memory(self, since: float) -> bool:
        try:
            return await self._engine.ran_out_of_memory(self.id, since)
        except EngineError:  # then the container is simply lost
            return False

    async def reset(self, *, timeout_s: float) -> ResetReport:
        """Wait for the runner's report on the reset that follows every run.

        If the runner dies, or needs more than `timeout_s` seconds, the report is not clean. Raises
        `RuntimeError` if there was no run, but never a `PoolError`.
        """
        if self._report is None:
            raise RuntimeError("a reset follows a run")
        try:
            async with asyncio.timeout(timeout_s):
                return await self._report
        except TimeoutError:
            return ResetReport(clean=False, detail=f"reset took over {timeout_s:g} s")
        except PoolError as error:
            return ResetReport(clean=False, detail=str(error))

    async def destroy(self) -> None:
        """Close the stream and remove the container. Raises `EngineError` if that fails.

        The runner exits when its stream is closed, and all processes with it. The removal holds
        even if the runner hangs.
        """
        self.on_lost = None
        self._fail(ContainerLost("the container was destroyed"))
        self._reader.cancel()
        await self._stream.close()
        await self._engine.remove(self.id)

    async def _read(self) -> None:
        decoder, taken = Decoder(MAX_PAYLOAD_BYTES), 0
        try:
            while data := await self._stream.read():
                for kind, payload in decoder.feed(data):
                    self._on_frame(kind, payload)
                taken += len(data)
                if taken >= TURN_BYTES:
                    taken = 0
                    await turn()
            message = "the container ended"
            if decoder.pending:
                message += " in the middle of a frame"
            self._fail(ContainerLost(message))
        except (ValueError, RecursionError) as error:  # of a frame, or of the JSON in READY
            self._fail(RunnerProtocolError(str(error)))
        except PoolError as error:
            self._fail(error)
        finally:
            self._fail(ContainerLost("the stream to the container was closed"))

    def _on_frame(self, kind: Kind, payload: bytes) -> None:
        running = self._answer is not None and not self._answer.done()
        if kind is Kind.STDOUT or kind is Kind.STDERR:
            self._room -= len(payload)
            if not running or self._room < 0:
                raise FrameError("output that no run asked for")
            self._output.add(kind, payload)
        elif kind is Kind.FILES or kind is Kind.SHOWN or kind is Kind.RESTARTED:
            self._on_part(kind, payload, running=running)
        elif kind is Kind.EXIT:
            ending = decode_exit(payload)
            if self._answer is None or not running or ending.run != self._run:
                raise FrameError("an EXIT that no run asked for")
            self._answer.set_result(ending)
        elif kind is Kind.CLEAN or kind is Kind.DIRTY:
            if running or self._report is None or self._report.done():
                raise FrameError("a reset report that no run asked for")
            detail = payload.decode("utf-8", "replace")
            self._report.set_result(ResetReport(clean=kind is Kind.CLEAN, detail=detail))
        else:
            self._on_first_frame(kind, payload)

    def _on_part(self, kind: Kind, payload: bytes, *, running: bool) -> None:
        if kind is Kind.FILES and running and self._collected is not None:
            self._collected.add(payload)
        elif kind is not Kind.FILES and running and self._shown is not None:
            self._shown.add(kind, payload)
        else:
            raise FrameError(f"{kind.name.lower()} that no run asked for")

    def _on_first_frame(self, kind: Kind, payload: bytes) -> None:
        if self._ready.done():
            raise FrameError(f"{kind.name} out of turn")
        if kind is Kind.READY:
            about = json.loads(payload)
            if not isinstance(about, dict):
                raise FrameError("READY tells nothing about the runner")
            self.runner = about
            self._ready.set_result(None)
        elif kind is Kind.REFUSED:
            raise PreimportRefused(" ".join(payload.decode("utf-8", "replace").split()))
        else:
            raise FrameError(f"{kind.name} out of turn")

    def _fail(self, error: PoolError) -> None:
        if self._failure is not None:
            return
        self._failure = error
        for future in (self._ready, self._answer, self._report):
            if future is not None and not future.done():
                future.set_exception(error)
                future.exception()  # else asyncio logs an error if nothing awaits the future
        if self.on_lost is not None:
            self.on_lost(self)


def _see_that_it_ran(ending: Exit, job: Job) -> None:
    """Raise the error of a job that did not begin, if the runner says so and may say so."""
    if ending.ending is Ending.NO_ROOM:
        if not job.files:
            raise RunnerProtocolError("the runner has no room for files that nobody sent")
        raise NoRoom("the files do not fit on the disk of a container")
    if ending.ending is Ending.NOT_WRITTEN:
        if not job.files:
            raise RunnerProtocolError("the runner cannot write files that nobody sent")
        raise NotWritten("the files could not be written: the session has something in their place")
    if ending.ending is Ending.NO_PROCESS:
        if not job.files:
            raise RunnerProtocolError("the runner needs no process for files that nobody sent")
        raise NotWritten(
            "the files could not be written: the session has too many processes or threads"
        )
    if ending.ending is Ending.NO_LAYER:
        if not job.layer:
            raise RunnerProtocolError("the runner misses a layer that nobody asked for")
        raise LayerMissing("the layer of dependencies is not there")


_NOTHING = Output()
"""In place of the output of a run that has ended."""
