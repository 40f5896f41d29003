"""Run the doctor's snippets in containers like the server's, and read their output."""

from __future__ import annotations

import asyncio
import inspect
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, TypeVar

from pydantic import TypeAdapter, ValidationError

from pgexec.doctor.facts import Inside
from pgexec.doctor.snippets import inside
from pool.engine.masked import MASKED_PATHS
from pool.engine.spec import SYSCTLS
from pool.job import Job, Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgexec.backend.laboratory import Laboratory
    from pgexec.settings import Settings
    from pool.container import Container
    from pool.job import Result

T = TypeVar("T")

RUN_TIMEOUT_S = 10.0
OUTPUT_BYTES = 256 << 10


class ProbeError(Exception):
    """A snippet of ours failed; the text tells how it ended."""


@dataclass(frozen=True, slots=True)
class Sandbox:
    """One warm container, and the facts that a snippet sees in it."""

    laboratory: Laboratory
    container: Container
    inside: Inside

    @classmethod
    async def of(cls, laboratory: Laboratory, container: Container) -> Self:
        """Look around in a container of a laboratory. Raises the errors of `ask`."""
        seen = await ask(container, Inside, inside.report, list(SYSCTLS), list(MASKED_PATHS))
        return cls(laboratory, container, seen)

    @property
    def settings(self) -> Settings:
        """The server's settings."""
        return self.laboratory.settings


async def run(container: Container, function: Callable[..., None], *arguments: object) -> Result:
    """Run the snippet that `source_of` returns."""
    source = await source_of(function, *arguments)
    return await container.run(Job(source.encode(), b"", RUN_TIMEOUT_S, OUTPUT_BYTES))


async def source_of(function: Callable[..., None], *arguments: object) -> str:
    """Return a snippet: the text of the function's module, and a call of the function."""
    source = await asyncio.to_thread(inspect.getsource, sys.modules[function.__module__])
    return f"{source}\n\n{function.__name__}({', '.join(map(repr, arguments))})\n"


async def ask(
    container: Container,
    shape: type[T],
    function: Callable[..., None],
    *arguments: object,
    may_leave: str = "",
) -> T:
    """Run a function as `run` does, reset the container, and return the function's output.

    `may_leave` is the first words of what the function is known to leave where it succeeds; the
    container has ended then.

    Raises `ProbeError` if the function fails, or if the container is not clean after it.
    """
    answer = await run(container, function, *arguments)
    report = await container.reset(timeout_s=RUN_TIMEOUT_S)
    if answer.status is not Status.OK:
        words = answer.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise ProbeError(f"a snippet that tries it ended with {answer.status} {words}".strip())
    if not report.clean and not (may_leave and report.detail.startswith(may_leave)):
        raise ProbeError(f"the reset after a snippet that tries it found {report.detail}")
    try:
        return TypeAdapter(shape).validate_json(answer.stdout)
    except ValidationError as error:
        raise ProbeError("a snippet that tries it printed what cannot be read") from error
