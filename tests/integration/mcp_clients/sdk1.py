"""As `sdk2.py`, by the official SDK, 1.x, which has an environment of its own."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from mcp import ClientSession, StdioServerParameters, types
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client


def transport() -> Any:
    if sys.argv[1].startswith("http"):
        return streamable_http_client(sys.argv[1])
    own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = StdioServerParameters(command=sys.argv[1], args=sys.argv[2:], env=own, cwd=Path.cwd())
    return stdio_client(command)


async def answer(session: ClientSession, revision: str, step: dict[str, Any]) -> object:
    match step["op"]:
        case "revision":
            return revision
        case "list":
            tools = (await session.list_tools()).tools
            return {tool.name: tool.model_dump(by_alias=True) for tool in tools}
        case "call":
            progress: list[str] = []

            async def note(_done: float, _total: float | None, message: str | None) -> None:
                progress.append(str(message))

            result = await session.call_tool(
                step["name"], step["arguments"], progress_callback=note
            )
            document = result.model_dump(by_alias=True, exclude_none=True, mode="json")
            return {**document, "progress": progress}
        case _:
            begun = asyncio.Event()

            async def begins(*_: object) -> None:
                begun.set()

            number = session._request_id  # of the next request; no call cancels by itself
            call = asyncio.create_task(
                session.call_tool(step["name"], step["arguments"], progress_callback=begins)
            )
            await begun.wait()
            cancelled = types.CancelledNotification(
                params=types.CancelledNotificationParams(requestId=number)
            )
            await session.send_notification(types.ClientNotification(cancelled))
            call.cancel()
            await asyncio.wait([call])
            return {"cancelled": call.cancelled()}


async def main() -> None:
    async with (
        transport() as (reader, writer, *_),
        ClientSession(reader, writer) as session,
    ):
        revision = str((await session.initialize()).protocolVersion)
        while line := await asyncio.to_thread(sys.stdin.readline):
            print(json.dumps(await answer(session, revision, json.loads(line))), flush=True)


asyncio.run(main())
