"""The tools as a server of the SDK's, whose client may be of any revision of the protocol."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from mcp.server.caching import CacheHint
from mcp.server.lowlevel.server import Server
from mcp_types import (
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
)

from pgexec import __version__
from pgexec.client import PgexecError
from pgexec.mcp.answers import failure_of
from pgexec.mcp.clients import Clients
from pgexec.mcp.descriptions import INSTRUCTIONS
from pgexec.mcp.progress import Notices

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from mcp.server.context import ServerRequestContext

    from pgexec.mcp.tools import Tools

    Context = ServerRequestContext[Clients, Any]
    KeyOf = Callable[[Any], str | None]

TOOLS_TTL_MS = 60_000


def make_server(tools: Tools, key_of: KeyOf, *, one_client: bool) -> Server[Clients]:
    """Return the server. `key_of` takes a request of HTTP, or `None`, and returns its API key.

    It returns `None` for the key of the environment, and an empty text for none. With `one_client`
    the sessions that were begun end with the server, because nobody else can go on with them.
    """

    @asynccontextmanager
    async def clients_of(_: Server[Clients]) -> AsyncIterator[Clients]:
        clients = Clients()
        try:
            yield clients
            if one_client:
                async with clients.lend(None) as client:
                    await tools.end_sessions(client)
        finally:
            await clients.close()

    async def list_tools(context: Context, _: PaginatedRequestParams | None) -> ListToolsResult:
        async with context.lifespan_context.lend(key_of(context.request)) as client:
            return ListToolsResult(tools=await tools.listed(client))

    async def call_tool(context: Context, params: CallToolRequestParams) -> CallToolResult:
        progress = Notices(context.session.report_progress)
        try:
            async with context.lifespan_context.lend(key_of(context.request)) as client:
                return await tools.call(client, params.name, params.arguments, progress)
        except PgexecError as error:
            return failure_of(error)

    return Server(
        "pgexec",
        version=__version__,
        title="pgexec",
        instructions=INSTRUCTIONS,
        lifespan=clients_of,
        cache_hints={"tools/list": CacheHint(TOOLS_TTL_MS, "private")},
        get_tool_input_schema=lambda _: None,  # no argument is a header; else each call lists tools
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )
