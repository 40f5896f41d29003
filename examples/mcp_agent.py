"""An agent with the tools of `pgexec mcp`: it lists them, begins a session and goes on in it.

    pip install 'pgexec[mcp]'
    PGEXEC_URL=http://localhost:8080 python examples/mcp_agent.py

Here stand the calls that a model would have made. The SDK starts `pgexec mcp`, whose end ends the
session.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client

SERVER = StdioServerParameters(command="pgexec", args=["mcp"], env=dict(os.environ))
FIRST = (
    "import csv\nsales = [int(row['sum']) for row in csv.DictReader(open('sales.csv'))]\nlen(sales)"
)
SECOND = "sum(sales)"


async def main() -> None:
    """Give the tool a file, and ask twice about it."""
    async with Client(stdio_client(SERVER)) as client:
        listed = await client.list_tools()
        print("tools:", ", ".join(tool.name for tool in listed.tools))
        arguments: dict[str, Any] = {"code": FIRST, "files": {"sales.csv": "sum\n20\n22\n"}}
        first = await client.call_tool("run_in_session", arguments)
        session = first.structured_content["session_id"]
        arguments = {"code": SECOND, "session_id": session}
        second = await client.call_tool("run_in_session", arguments)
        print("rows:", first.structured_content["value"])
        print("total:", second.structured_content["value"])


if __name__ == "__main__":
    asyncio.run(main())
