"""A container to attack: recycled while its resets are clean, replaced when one is not."""

from __future__ import annotations

import asyncio
import os
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pool.container import Container
from pool.engine.address import find_engine
from pool.engine.docker import DockerEngine
from pool.engine.gvisor import is_gvisor
from pool.engine.spec import LABEL, ContainerSpec, create_document
from pool.job import Job, ResetReport, Result, Status

if TYPE_CHECKING:
    from pool.engine.image import Image

IN_GVISOR = is_gvisor(os.environ.get("PGEXEC_RUNTIME", ""))
PATIENCE_S = 60.0
"""Bounds a test that hangs; no test is decided by it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attack ended, and what the reset after it found."""

    result: Result
    report: ResetReport

    @property
    def status(self) -> Status:
        return self.result.status

    @property
    def tidy(self) -> bool:
        """Whether the reset was clean, or ran out of time and said so: machines may be busy.

        In gVisor the whole sandbox may die of the memory of a run: nothing is left of it.
        """
        if IN_GVISOR and self.status is Status.MEMORY_LIMIT and not self.report.clean:
            return self.report.detail == "the container ended"
        return self.report.clean or "took over" in self.report.detail

    @property
    def text(self) -> str:
        return self.result.data.decode("utf-8", "replace")


class Sandbox:
    """Runs snippets as the pool does, but is stricter: whatever resets clean is used again."""

    def __init__(self, image: Image, **changes: object) -> None:
        changes.setdefault("runtime", os.environ.get("PGEXEC_RUNTIME", ""))
        self._spec = ContainerSpec(image.name, image.prepared, **changes)  # type: ignore[arg-type]
        self._engine = DockerEngine(find_engine(""), streams=8)
        self._owner = uuid.uuid4().hex
        self._sequence = 0
        self._container: Container | None = None

    async def run(self, code: str | bytes, *, stdin: bytes = b"", **changes: object) -> Outcome:
        """Run one snippet and wait for the reset; a dirty container is not used again.

        A runner that dies raises `ContainerLost`: PID 1 survives whatever is attempted here.
        """
        source = code if isinstance(code, bytes) else code.encode()
        job = Job(source, stdin, **{"timeout_s": 20.0, **changes})  # type: ignore[arg-type]
        async with asyncio.timeout(PATIENCE_S):
            container = self._container or await self._start()
            self._container = None
            try:
                result = await container.run(job)
                report = await container.reset(timeout_s=10)
            except BaseException:
                await container.destroy()
                raise
            if report.clean:
                self._container = container
            else:
                await container.destroy()
        return Outcome(result, report)

    async def attack(self, code: str | bytes, *, stdin: bytes = b"", **changes: object) -> Outcome:
        """Run a hostile snippet, and at once a normal one, which must work."""
        outcome = await self.run(code, stdin=stdin, **changes)
        after = await self.run("import sys; print(40 + 2, sys.stdin.read())", stdin=b"in")
        assert (after.status, after.text) == (Status.OK, "42 in\n"), outcome
        assert after.report.clean, after.report
        return outcome

    async def renew(self) -> None:
        """See to it that the next run is the first one of its container."""
        container, self._container = self._container, None
        if container is not None:
            await container.destroy()

    async def close(self) -> None:
        """Leave no container behind."""
        await self.renew()
        async with asyncio.timeout(PATIENCE_S):
            while await self._engine.owned(f"{LABEL}={self._owner}"):
                await asyncio.sleep(0.05)
        await self._engine.close()

    async def _start(self) -> Container:
        self._sequence += 1
        document = create_document(self._spec, labels={LABEL: self._owner}, sequence=self._sequence)
        return await Container.start(self._engine, document)
