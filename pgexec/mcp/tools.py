"""The tools: what a model is told of them, and what a call does."""

from __future__ import annotations

import json
import logging
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any

import anyio
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, CallToolResult, TextContent, Tool, ToolAnnotations

from pgexec.client import PgexecError, RunLost
from pgexec.mcp.answers import (
    CellRecord,
    RunRecord,
    answer_of,
    failure_of,
    news_of,
    part_of,
    refusal,
)
from pgexec.mcp.arguments import (
    ArgumentError,
    EndSession,
    ReadFile,
    RunInSession,
    RunPython,
    arguments_of,
    schema_of,
)
from pgexec.mcp.descriptions import END_SESSION, READ_FILE, RUN_IN_SESSION, RUN_PYTHON

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from pgexec.client import AsyncClient, CompletedRun, RunEvent
    from pgexec.mcp.progress import Notices

log = logging.getLogger(__name__)

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
        self._sessions: set[str] = set()

    async def listed(self, client: AsyncClient) -> list[Tool]:
        """Return the tools with their descriptions, which say what is installed."""
        installed = await self._what_is_installed(client)
        # None but one that reads is read-only: where the server's sandboxes have a network, code
        # may send what it was given.
        runs = ToolAnnotations(read_only_hint=False, destructive_hint=False, open_world_hint=True)
        return [
            Tool(
                name="run_python",
                title="Run Python",
                description=RUN_PYTHON.format(installed=installed),
                input_schema=schema_of(RunPython),
                output_schema=schema_of(RunRecord),
                annotations=runs,
            ),
            Tool(
                name="run_in_session",
                title="Run Python in a session",
                description=RUN_IN_SESSION.format(installed=installed),
                input_schema=schema_of(RunInSession),
                output_schema=schema_of(CellRecord),
                annotations=runs,
            ),
            Tool(
                name="read_file",
                title="Read a file of a session",
                description=READ_FILE,
                input_schema=schema_of(ReadFile),
                annotations=ToolAnnotations(read_only_hint=True, open_world_hint=False),
            ),
            Tool(
                name="end_session",
                title="End a session",
                description=END_SESSION,
                input_schema=schema_of(EndSession),
                annotations=ToolAnnotations(destructive_hint=True, open_world_hint=False),
            ),
        ]

    async def call(
        self,
        client: AsyncClient,
        name: str,
        arguments: Mapping[str, Any] | None,
        progress: Notices,
    ) -> CallToolResult:
        """Call a tool. A cancellation ends its run; a failure is a tool's error in one sentence.

        Raises `MCPError` if there is no tool of that name.
        """
        try:
            return await self._called(client, name, arguments, progress)
        except MCPError:
            raise
        except ArgumentError as error:
            return refusal(f"Nothing ran: {error}.")
        except PgexecError as error:
            return failure_of(error, str((arguments or {}).get("session_id") or ""))
        except Exception:
            log.exception("the tool %s failed", name)
            return refusal("A bug of pgexec mcp; what it writes to stderr says more.")

    async def end_sessions(self, client: AsyncClient) -> None:
        """End the sessions that were begun here and have not been ended, within some seconds."""
        with anyio.move_on_after(ASK_WITHIN_S):
            for session_id in list(self._sessions):
                with suppress(PgexecError):
                    await client.resume(session_id).end()

    async def _called(
        self,
        client: AsyncClient,
        name: str,
        arguments: Mapping[str, Any] | None,
        progress: Notices,
    ) -> CallToolResult:
        match name:
            case "run_python":
                program = arguments_of(RunPython, name, arguments)
                return await self._run_python(client, program, progress)
            case "run_in_session":
                cell = arguments_of(RunInSession, name, arguments)
                return await self._run_in_session(client, cell, progress)
            case "read_file":
                return await _read_file(client, arguments_of(ReadFile, name, arguments))
            case "end_session":
                ended = arguments_of(EndSession, name, arguments)
                return await self._end_session(client, ended.session_id)
            case _:
                raise MCPError(INVALID_PARAMS, f"there is no tool {name!r}")

    async def _run_python(
        self, client: AsyncClient, program: RunPython, progress: Notices
    ) -> CallToolResult:
        options = program.options(self._language)
        return answer_of(await _follow(client.stream(program.code, **options), progress))

    async def _run_in_session(
        self, client: AsyncClient, cell: RunInSession, progress: Notices
    ) -> CallToolResult:
        options = cell.options()
        if cell.session_id:
            session = client.resume(cell.session_id)
            result = await _follow(session.stream(cell.code, **options), progress)
            return answer_of(result, session.id)
        await progress.say("beginning a session")
        session = await client.session(language=self._language, dependencies=cell.dependencies)
        self._sessions.add(session.id)
        try:
            result = await _follow(session.stream(cell.code, **options), progress)
        except BaseException:  # a cancellation, too: nobody knows the session's id
            with anyio.move_on_after(ASK_WITHIN_S, shield=True), suppress(PgexecError):
                await self._end_session(client, session.id)
            raise
        return answer_of(result, session.id)

    async def _end_session(self, client: AsyncClient, session_id: str) -> CallToolResult:
        await client.resume(session_id).end()
        self._sessions.discard(session_id)
        return CallToolResult(content=[TextContent(text="The session has ended.")])

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


async def _follow(events: AsyncGenerator[RunEvent, None], progress: Notices) -> CompletedRun:
    """Tell the progress of a run, and return its result. Raises `PgexecError`."""
    # Closed at once where a cancellation comes while progress is told: else the run went on until
    # the generator is collected.
    async with aclosing(events):
        async for event in events:
            if event.result is not None:
                return event.result
            await progress.tell(event)
    raise RunLost("the stream had no result", code="cut")


async def _read_file(client: AsyncClient, wanted: ReadFile) -> CallToolResult:
    # The server gives files back after a run only: so this is one that does nothing.
    result = await client.resume(wanted.session_id).run("# read_file", collect=[wanted.pattern()])
    file = next(iter(result.files.values()), None)
    if file is not None:
        answer = part_of(file, wanted.offset)
    elif result.files_omitted:
        answer = refusal(f"{wanted.name!r} did not come, as not all did: {result.files_omitted}.")
    else:
        answer = refusal(
            f"There is no file {wanted.name!r} in the directory in which the session began, where "
            "names count from also after os.chdir(); os.getcwd() and os.listdir() in "
            "run_in_session say where the code is now and what is there."
        )
    # What the run says is said once, of threads that go on, or of an interpreter that has died.
    answer.content += [TextContent(text=text) for text in news_of(result)]
    return answer


def _sentence(python: str, packages: list[tuple[str, str]]) -> str:
    named = ", ".join(f"{name} {version}" for name, version in packages[:MAX_NAMED])
    more = f", and {len(packages) - MAX_NAMED} more" if len(packages) > MAX_NAMED else ""
    also = f", {named}{more}" if named else ""
    return f"Python {python} with its standard library{also}."
