"""Start containers as the server does, run the doctor's snippets in them, and remove them."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import itertools
import sys
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Self, TypeVar

from pydantic import TypeAdapter, ValidationError

from pgexec.doctor import inside
from pgexec.doctor.facts import Inside
from pool.container import Container
from pool.errors import PoolError
from pool.job import Job, Status
from pool.spec import SYSCTLS, create_document

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping

    from pgexec.settings import Settings
    from pool.docker_engine import DockerEngine
    from pool.job import Result
    from pool.spec import ContainerSpec, Limits

T = TypeVar("T")

RUN_TIMEOUT_S = 10.0
OUTPUT_BYTES = 256 << 10
CODE_BYTES = 1 << 20
MEMORY_BYTES = 64 << 20
DESTROY_TIMEOUT_S = 5.0


class ProbeError(Exception):
    """A snippet of ours did not do what it was written for; the sentence says how it ended."""


@dataclass(frozen=True, slots=True)
class Laboratory:
    """Where containers come from: the engine, the spec that the server would use, their labels."""

    engine: DockerEngine
    settings: Settings
    spec: ContainerSpec
    labels: Callable[[], Mapping[str, str]]
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @contextlib.asynccontextmanager
    async def container(self, limits: Limits | None = None) -> AsyncIterator[Container]:
        """Lend a container with these limits, or the settings' own; it is removed afterwards.

        Where the settings' own are so small that our snippets do not fit, they get more.
        """
        own = self.spec.limits
        limits = limits or replace(own, memory_bytes=max(own.memory_bytes, MEMORY_BYTES))
        spec = replace(self.spec, limits=replace(limits, code_bytes=CODE_BYTES))
        document = create_document(spec, labels=self.labels(), sequence=next(self._numbers))
        container = await Container.start(
            self.engine, document, timeout_s=self.settings.start_timeout_s
        )
        try:
            yield container
        finally:
            await asyncio.shield(asyncio.ensure_future(_remove(container)))


@dataclass(frozen=True, slots=True)
class Sandbox:
    """One container, warm and lent, and what it is like inside."""

    laboratory: Laboratory
    container: Container
    inside: Inside

    @classmethod
    async def of(cls, laboratory: Laboratory, container: Container) -> Self:
        """Look around in a container of a laboratory. Raises as `ask` does."""
        seen = await ask(container, Inside, inside.report, list(SYSCTLS))
        return cls(laboratory, container, seen)

    @property
    def settings(self) -> Settings:
        """The server's settings."""
        return self.laboratory.settings


async def run(container: Container, function: Callable[..., None], *arguments: object) -> Result:
    """Run the text of a function's module as a snippet, and then a call of the function."""
    source = await asyncio.to_thread(inspect.getsource, sys.modules[function.__module__])
    call = f"{function.__name__}({', '.join(map(repr, arguments))})"
    job = Job(f"{source}\n\n{call}\n".encode(), b"", RUN_TIMEOUT_S, OUTPUT_BYTES)
    return await container.run(job)


async def ask(
    container: Container, shape: type[T], function: Callable[..., None], *arguments: object
) -> T:
    """Run a function as `run` does, reset, and return what it printed.

    Raises `ProbeError` where it ended otherwise, or the container is not clean after it.
    """
    answer = await run(container, function, *arguments)
    report = await container.reset(timeout_s=RUN_TIMEOUT_S)
    if answer.status is not Status.OK:
        words = answer.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise ProbeError(f"a snippet that tries it ended with {answer.status} {words}".strip())
    if not report.clean:
        raise ProbeError(f"the reset after a snippet that tries it found {report.detail}")
    try:
        return TypeAdapter(shape).validate_json(answer.stdout)
    except ValidationError as error:
        raise ProbeError("a snippet that tries it printed what cannot be read") from error


async def _remove(container: Container) -> None:
    # Where the engine does not remove it, it ends by itself: its stream has been closed.
    with contextlib.suppress(PoolError, TimeoutError):
        async with asyncio.timeout(DESTROY_TIMEOUT_S):
            await container.destroy()
