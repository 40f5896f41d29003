"""A client by the official SDK, 2.x: takes a step a line, as JSON, and answers in one.

`sdk2.py URL`, or `sdk2.py COMMAND ARGUMENT …` for a server that it starts.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client


def target() -> Any:
    if sys.argv[1].startswith("http"):
        return sys.argv[1]
    command = StdioServerParameters(
        command=sys.argv[1], args=sys.argv[2:], env=dict(os.environ), cwd=Path.cwd()
    )
    return stdio_client(command)


async def answer(client: Client, step: dict[str, Any]) -> object:
    match step["op"]:
        case "revision":
            return client.protocol_version
        case "list":
            tools = (await client.list_tools()).tools
            return {tool.name: tool.model_dump(by_alias=True) for tool in tools}
        case "call":
            told: list[str] = []

            async def note(
                progress: float, total: float | None = None, message: str | None = None
            ) -> None:
                told.append(str(message))

            result = await client.call_tool(step["name"], step["arguments"], progress_callback=note)
            document = result.model_dump(by_alias=True, exclude_none=True, mode="json")
            return {**document, "progress": told}
        case _:
            begun = asyncio.Event()

            async def begins(
                progress: float, total: float | None = None, message: str | None = None
            ) -> None:
                begun.set()

            call = asyncio.create_task(
                client.call_tool(step["name"], step["arguments"], progress_callback=begins)
            )
            await begun.wait()
            call.cancel()
            await asyncio.wait([call])
            return {"cancelled": call.cancelled()}


async def main() -> None:
    async with Client(target()) as client:
        while line := await asyncio.to_thread(sys.stdin.readline):
            print(json.dumps(await answer(client, json.loads(line))), flush=True)


asyncio.run(main())
