"""A client of event streams that is as strict as the format: one name and one line of JSON each."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from aiohttp import StreamReader

Event = tuple[str, Any]
"""The event's name and its data; a comment's name is `""`, its data the text."""

ASK = {"Accept": "text/event-stream"}


def parse(stream: bytes) -> Iterator[Event]:
    """Yield the events of a whole stream, comments left out."""
    *blocks, rest = stream.decode().split("\n\n")
    assert rest == "", "the stream ends in the middle of an event"
    for block in blocks:
        if (event := parse_block(block))[0]:
            yield event


def parse_block(block: str) -> Event:
    if block.startswith(":"):
        return "", block[1:].strip()
    name, data = block.split("\n")
    assert name.startswith("event: ")
    assert data.startswith("data: ")
    return name.removeprefix("event: "), json.loads(data.removeprefix("data: "))


async def read(content: StreamReader) -> AsyncIterator[Event]:
    """Yield events, comments too, as they come."""
    rest = b""
    while data := await content.readany():
        *blocks, rest = (rest + data).split(b"\n\n")
        for block in blocks:
            yield parse_block(block.decode())
    assert rest == b"", "the stream ends in the middle of an event"
