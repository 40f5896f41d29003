"""The tools: what a model is told of them, and what a call does."""

from __future__ import annotations

import json
import logging
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import anyio
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, CallToolResult, Tool, ToolAnnotations

from pgexec.client import PgexecError, RunLost
from pgexec.mcp.answers import RunRecord, answer_of, failure_of, refusal
from pgexec.mcp.arguments import ArgumentError, RunPython, arguments_of, schema_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgexec.client import AsyncClient
    from pgexec.mcp.progress import Progress

log = logging.getLogger(__name__)

INSTRUCTIONS = (
    "Runs Python code in sandboxes of a pgexec server. run_python runs a program once in a fresh "
    "sandbox and keeps nothing."
)
ASK_WITHIN_S = 5.0
MAX_NAMED = 80
UNKNOWN = "Python with its standard library."
_ASK = """\
import importlib.metadata, json, sys
own = {"pip", "setuptools", "wheel"}
names = {(d.metadata["Name"] or "", d.version) for d in importlib.metadata.distributions()}
print(json.dumps([sys.version.split()[0], sorted(n for n in names if n[0] and n[0] not in own)]))
"""


class Tools:
    """The tools on one server; `language` is `python`, or a profile of the server's."""

    def __init__(self, language: str) -> None:
        self._language = language
        self._installed: str | None = None

    async def listed(self, client: AsyncClient) -> list[Tool]:
        """Return the tools with their descriptions, which say what is installed."""
        return [
            Tool(
                name="run_python",
                title="Run Python",
                description=_RUN_PYTHON.format(installed=await self._what_is_installed(client)),
                input_schema=schema_of(RunPython),
                output_schema=schema_of(RunRecord),
                annotations=ToolAnnotations(
                    # Not read-only: where snippets have a network, code may send what it was given.
                    read_only_hint=False,
                    destructive_hint=False,
                    open_world_hint=True,
                ),
            )
        ]

    async def call(
        self,
        client: AsyncClient,
        name: str,
        arguments: Mapping[str, Any] | None,
        progress: Progress,
    ) -> CallToolResult:
        """Call a tool. A cancellation ends its run; a failure is a tool's error in one sentence.

        Raises `MCPError` if there is no tool of that name.
        """
        try:
            match name:
                case "run_python":
                    return await self._run_python(client, arguments, progress)
        except ArgumentError as error:
            return refusal(f"Nothing ran: {error}.")
        except PgexecError as error:
            return failure_of(error)
        except Exception:
            log.exception("the tool %s failed", name)
            return refusal("A bug of pgexec mcp; what it writes to stderr says more.")
        raise MCPError(INVALID_PARAMS, f"there is no tool {name!r}")

    async def _run_python(
        self, client: AsyncClient, arguments: Mapping[str, Any] | None, progress: Progress
    ) -> CallToolResult:
        wanted = arguments_of(RunPython, "run_python", arguments)
        options = wanted.options(self._language)
        # Closed at once where a cancellation comes while progress is told: else the run went on
        # until the generator is collected.
        async with aclosing(client.stream(wanted.code, **options)) as events:
            async for event in events:
                if event.result is not None:
                    return answer_of(event.result)
                await progress.tell(event)
        raise RunLost("the stream had no result", code="cut")

    async def _what_is_installed(self, client: AsyncClient) -> str:
        """Return a sentence on Python and packages, asked of the server until it answers once."""
        if self._installed is None:
            with anyio.move_on_after(ASK_WITHIN_S):
                try:
                    answer = await client.run(_ASK, language=self._language)
                    self._installed = _sentence(*json.loads(answer.stdout))
                except (PgexecError, ValueError, TypeError) as error:
                    log.warning("what is installed on the server is not known: %s", error)
        return self._installed or UNKNOWN


def _sentence(python: str, packages: list[tuple[str, str]]) -> str:
    named = ", ".join(f"{name} {version}" for name, version in packages[:MAX_NAMED])
    more = f", and {len(packages) - MAX_NAMED} more" if len(packages) > MAX_NAMED else ""
    also = f", {named}{more}" if named else ""
    return f"Python {python} with its standard library{also}."


_RUN_PYTHON = """\
Run a Python program in a fresh, isolated sandbox and return what it prints.

- Only printed output comes back: the value of a last expression does not, so print() it.
- Nothing is kept: every call starts in an empty directory, without the variables and files of \
earlier calls.
- Installed: {installed} Name every other package that the code imports in `dependencies`; its \
first use takes some seconds.
- Plots: save them, for example plt.savefig("plot.png"); every image file that the program leaves \
comes back as an image. Do not call plt.show().
- Files: give inputs in `files`, and name outputs to get back in `collect`.
- An exception of the program is a normal result with its traceback: correct the code and call \
again. Very long output is shortened in its middle.\
"""
