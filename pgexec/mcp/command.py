"""`pgexec mcp`: the tools over standard input and output, or over HTTP."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from dataclasses import dataclass

from mcp.server.stdio import stdio_server

from pgexec.client import RunRefused
from pgexec.mcp.clients import Clients
from pgexec.mcp.http import LOOPBACK, PATH, McpListenError, key_of_request, listen, serve
from pgexec.mcp.service import make_server
from pgexec.mcp.tools import Tools

EXIT_FAILED = 1


@dataclass(frozen=True, slots=True)
class McpCommand:
    """The command line. `host` and `port` count for HTTP only."""

    language: str = "python"
    http: bool = False
    host: str = "127.0.0.1"
    port: int = 8081

    def run(self) -> int:
        """Serve until the client has gone, or a signal; return the exit status."""
        try:
            asyncio.run(_try_address())
            return self._serve_http() if self.http else self._serve_stdio()
        except (RunRefused, McpListenError) as error:
            _say(str(error))
            return EXIT_FAILED

    def _serve_stdio(self) -> int:
        # A thread waits for the next line, which Python would wait for at Ctrl-C.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        server = make_server(Tools(self.language), lambda _: None, one_client=True)

        async def serve_client() -> None:
            async with stdio_server() as (reader, writer):
                await server.run(reader, writer, server.create_initialization_options())

        asyncio.run(serve_client())
        return 0

    def _serve_http(self) -> int:
        lends = self.host in LOOPBACK
        server = make_server(
            Tools(self.language),
            lambda request: key_of_request(request, lends=lends),
            one_client=False,
        )
        with listen(self.host, self.port) as listener:
            host = f"[{self.host}]" if ":" in self.host else self.host
            _say(f"serving MCP at http://{host}:{listener.getsockname()[1]}{PATH}")
            if not lends and os.environ.get("PGEXEC_API_KEY"):
                _say(
                    "callers from elsewhere need API keys of their own: PGEXEC_API_KEY is not lent"
                )
            serve(server, self.host, listener)
        return 0


async def _try_address() -> None:
    """Raise `RunRefused` now if the server's address is none, not at every call."""
    clients = Clients()
    async with clients.lend(None):
        pass
    await clients.close()


def _say(sentence: str) -> None:
    print(f"pgexec: {sentence}", file=sys.stderr, flush=True)  # noqa: T201
