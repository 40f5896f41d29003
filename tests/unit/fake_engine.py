"""A container engine in memory, whose runners do what the snippet's text tells them to.

It speaks the real frames, keeps every promise of `pool.engine.api.Engine` that a test does not
tell it to break, and notes in `violations` what the pool must never do.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pool.container import MAX_PAYLOAD_BYTES, Container
from pool.engine.api import Owned
from pool.errors import ContainerLost, EngineError
from pool.inside.protocol import (
    FOUND,
    INTERRUPT,
    JOB_HEADER_SIZE,
    SHOWN,
    Decoder,
    Ending,
    Exit,
    Found,
    JobHeader,
    Kind,
    ShownForm,
    Step,
    decode_job,
    encode,
    encode_exit,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from pool.engine.api import CreateDocument
    from pool.lease import Launcher

DOCUMENT: CreateDocument = {"Image": "fake"}

# What a runner may do with a job, besides running it: the text of the snippet says which.
_ENDINGS = {
    b"error": (Ending.EXITED, 1),
    b"killed": (Ending.SIGNALED, -11),
    b"timeout": (Ending.TIMEOUT, -9),
    b"output_limit": (Ending.OUTPUT_LIMIT, -9),
    b"no room": (Ending.NO_ROOM, 0),
    b"no process": (Ending.NO_PROCESS, 0),
    b"cpu_time": (Ending.CPU_TIME, -9),
    b"memory_limit": (Ending.MEMORY_LIMIT, -9),
}
_MUTE = {b"dirty", b"slow reset", b"die in reset"}
_FIGURES: dict[str, Any] = {"duration_us": 1500, "cpu_us": 1000, "peak_memory_bytes": 1 << 20}


HTML = b"text/html"
LARGE_FORMS = ('\u00e4"\n'.encode() * 100_000, b"<td>\xff" * 100_000, b"\0" * 100_000)
"""What a cell `show large` shows: texts that grow as JSON, and one that is no UTF-8."""


class FakeContainer:
    """One container and its runner; also the server's end of the stream to it."""

    def __init__(self, engine: FakeEngine, container_id: str) -> None:
        self.id = container_id
        self.jobs: list[tuple[JobHeader, bytes, bytes]] = []
        self.strings = self.files = b""  # of the last job
        self.files_left = 0
        self._waiting: tuple[JobHeader, bytes, bytes]
        self.ended = False
        self.busy = False
        self.ready = False  # until then it has nothing to do but to exit with its stdin
        self._engine = engine
        self._outbox: asyncio.Queue[bytes] = asyncio.Queue()
        self._decoder = Decoder(MAX_PAYLOAD_BYTES)

    # --- the stream, as the server sees it ----------------------------------------------------

    async def read(self) -> bytes:
        return await self._outbox.get()

    async def write(self, data: bytes | memoryview) -> None:
        if self._engine.write_gate is not None:
            await self._engine.write_gate.wait()
        if self.ended:
            raise ContainerLost("the other end is gone")
        if self.files_left:
            self.files += data
            self.files_left -= len(data)
            if not self.files_left:
                self._on_job(*self._waiting)
            return
        for kind, payload in self._decoder.feed(bytes(data)):
            if kind is Kind.INTERRUPT:
                self._on_interrupt(payload)
                continue
            assert kind is Kind.JOB
            header = decode_job(payload)
            start = JOB_HEADER_SIZE + header.layer_size
            end = start + header.code_size
            stdin_end = end + header.stdin_size
            self.strings = payload[stdin_end:]
            self._waiting = header, payload[start:end], payload[end:stdin_end]
            self.files, self.files_left = b"", header.files_size
            if not self.files_left:
                self._on_job(*self._waiting)

    async def close(self) -> None:
        if self.ready and not self._engine.auto_remove:
            self.die()
        else:
            self.vanish()

    # --- the runner ---------------------------------------------------------------------------

    def say(self, *data: bytes) -> None:
        """Send bytes to the server."""
        size = self._engine.chunk_bytes
        whole = b"".join(data)
        for start in range(0, len(whole), size):
            self._outbox.put_nowait(whole[start : start + size])

    def die(self) -> None:
        """End, as by a kill; what was said before still arrives."""
        if not self.ended:
            self.ended = True
            self._outbox.put_nowait(b"")

    def vanish(self) -> None:
        """End and be removed, as a container with `AutoRemove` is."""
        self.die()
        self._engine.containers.pop(self.id, None)

    def finish(self, output: bytes = b"late\n") -> None:
        """Let a job that hangs come to its end."""
        self._exit(output)
        self.finish_reset()

    def finish_reset(self) -> None:
        """Let a reset that is held back come to its end."""
        self.busy = False
        if not (self.jobs and self.jobs[-1][0].step):
            self.say(encode(Kind.CLEAN, b"{}"))

    def _on_interrupt(self, payload: bytes) -> None:
        header, code, _ = self.jobs[-1]
        if self.busy and payload == INTERRUPT.pack(header.run) and code == b"hang":
            self.finish(b"interrupted\n")

    def _on_job(self, header: JobHeader, code: bytes, stdin: bytes) -> None:
        if self.busy:
            self._engine.violations.append(f"{self.id} was given a job while it was busy")
        if {tenant for _, _, tenant in self.jobs} - {stdin}:
            self._engine.violations.append(f"{self.id} crossed from one tenant to another")
        if self.jobs and self.jobs[-1][0].last:
            self._engine.violations.append(f"{self.id} was used after its last job")
        self.jobs.append((header, code, stdin))
        self.busy = True
        self._act(code)

    def _act(self, code: bytes) -> None:
        last = self.jobs[-1][0].last
        offence = self._offence(code)
        exits = not offence and code not in {b"hang", b"die"}
        if offence:
            self.say(offence)
        elif exits:
            output = b"" if code in _MUTE else b"hello\n"
            if code == b"leave a file":
                end = FOUND.pack(Found.END, 0, 0)
                self.say(encode(Kind.FILES, FOUND.pack(Found.CONTENT, 1, 3) + b"axyz" + end))
            if self.jobs[-1][0].step == Step.CELL:
                if code == b"show large":
                    for content in LARGE_FORMS:
                        head = SHOWN.pack(ShownForm.RICH, len(HTML), len(content)) + HTML
                        self.say(encode(Kind.SHOWN, head + content))
                cut = SHOWN.pack(ShownForm.CUT, 0, 0) if code == b"show more" else b""
                self.say(encode(Kind.SHOWN, SHOWN.pack(ShownForm.VALUE, 0, 2) + b"42" + cut))
            self._exit(output, *_ENDINGS.get(code, (Ending.EXITED, 0)))
        if code in {b"die", b"die in a frame", b"die in reset"} or (exits and last):
            self.vanish()
        elif code == b"dirty":
            self.say(encode(Kind.DIRTY, b"3 inodes are left"))
        elif exits and code != b"slow reset":
            self.finish_reset()

    def _offence(self, code: bytes) -> bytes:
        """Return what no honest runner says, if that is what the snippet asks for."""
        header = self.jobs[-1][0]
        ending = Exit(header.run, Ending.EXITED, 0, truncated=False, **_FIGURES)
        return {
            b"die in a frame": encode(Kind.STDOUT, b"cut off")[:-3],
            b"garbage": b"Traceback (most recent call last):",
            b"lie about the run": encode_exit(ending._replace(run=header.run + 1)),
            b"malformed exit": encode(Kind.EXIT, b"nonsense"),
            b"exit twice": encode_exit(ending) * 2,
            b"flood": encode(Kind.STDOUT, b"x" * (header.output_limit + 1)),
            b"ready again": encode(Kind.READY, b"{}"),
        }.get(code, b"")

    def _exit(self, output: bytes, ending: Ending = Ending.EXITED, status: int = 0) -> None:
        header, code, _ = self.jobs[-1]
        frames = [encode(Kind.STDOUT, output)] if output else []
        if code == b"both":
            frames = [encode(Kind.STDOUT, b"1"), encode(Kind.STDERR, b"2"), *frames]
        end = Exit(header.run, ending, status, truncated=False, **_FIGURES)
        self.say(*frames, encode_exit(end))


@dataclass
class FakeEngine:
    """Implements `pool.engine.api.Engine`; its fields script what goes wrong.

    `boots` and `start_errors` are used up one per start: how its runner boots (`ready`,
    `silent`, `dies`, `garbage`, `not json`), and what the start raises. Starts and removals
    take `start_s` and `remove_s`, and wait for their gates where there are any.
    With `auto_remove` a container is gone as soon as its stream is closed.
    """

    start_s: float = 0.0
    remove_s: float = 0.0
    start_gate: asyncio.Event | None = None
    remove_gate: asyncio.Event | None = None
    write_gate: asyncio.Event | None = None
    start_errors: deque[Exception | None] = field(default_factory=deque)
    remove_errors: deque[Exception | None] = field(default_factory=deque)
    boots: deque[str] = field(default_factory=deque)
    down: bool = False
    auto_remove: bool = False
    chunk_bytes: int = 1 << 16
    starved: set[str] = field(default_factory=set)
    containers: dict[str, FakeContainer] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    started: int = 0
    starting: int = 0
    most: int = 0
    most_starting: int = 0

    def launcher(self, timeout_s: float = 5.0) -> Launcher:
        """Return a launcher for the pool."""

        async def launch(number: int) -> Container:
            return await Container.start(self, DOCUMENT, timeout_s=timeout_s)

        return launch

    async def start(self, document: CreateDocument) -> tuple[str, FakeContainer]:
        self.starting += 1
        self.most_starting = max(self.most_starting, self.starting)
        try:
            return await self._start()
        finally:
            self.starting -= 1

    async def _start(self) -> tuple[str, FakeContainer]:
        error = self.start_errors.popleft() if self.start_errors else None
        boot = self.boots.popleft() if self.boots else "ready"
        await self._delay(self.start_s, self.start_gate)
        if self.down:
            raise EngineError("the engine is away")
        if error is not None:
            raise error
        self.started += 1
        container = FakeContainer(self, f"c{self.started}")
        self.containers[container.id] = container
        self.most = max(self.most, len(self.containers))
        match boot:
            case "ready":
                container.ready = True
                container.say(encode(Kind.READY, b'{"python": "3.13.0"}'))
            case "dies":
                container.vanish()
            case "garbage":
                container.say(b"exec format error")
            case "not json":
                container.say(encode(Kind.READY, b"{"))
        return container.id, container

    async def remove(self, container_id: str) -> None:
        error = self.remove_errors.popleft() if self.remove_errors else None
        await self._delay(self.remove_s, self.remove_gate)
        if self.down:
            raise EngineError("the engine is away")
        if error is not None:
            raise error
        if container_id in self.containers:
            self.containers[container_id].vanish()

    async def ran_out_of_memory(self, container_id: str, since: float) -> bool:
        return container_id in self.starved

    async def owned(self, label: str) -> Sequence[Owned]:
        return [Owned(one.id, {label: ""}, not one.ended) for one in self.containers.values()]

    async def follow(
        self,
        container_id: str,
        command: Sequence[str],
        *,
        user: str,
        environment: Mapping[str, str],
        on_output: Callable[[int, bytes], Awaitable[None]],
    ) -> int:
        return 0

    async def _delay(self, seconds: float, gate: asyncio.Event | None) -> None:
        if gate is not None:
            await gate.wait()
        if seconds:
            await asyncio.sleep(seconds)
