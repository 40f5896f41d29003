"""Render the files that a run has left, in pieces: base64 only while it is sent.

A large content is never in memory twice, and none of its pieces holds the event loop for long.
"""

from __future__ import annotations

import binascii
import codecs
from typing import TYPE_CHECKING

from pydantic_core import to_json

from pool.turns import rounds, turn

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pgexec.http.delivery import Document
    from pgexec.http.texts import Lazy
    from pool.job import OutputFile, Result

_PIECE_BYTES = 24 << 10
"""Base64 of this is 32 KiB."""


class Base64:
    """The base64 of some bytes, made piece by piece as it is read."""

    def __init__(self, data: bytes | bytearray) -> None:
        self._data = data

    @property
    def held_bytes(self) -> int:
        """The number of these bytes."""
        return len(self._data)

    def __len__(self) -> int:
        return (len(self._data) + 2) // 3 * 4

    def pieces(self) -> Iterator[bytes]:
        """Yield all of it in pieces of at most 32 KiB."""
        for start in range(0, len(self._data), _PIECE_BYTES):
            yield binascii.b2a_base64(self._data[start : start + _PIECE_BYTES], newline=False)


async def render_files(result: Result) -> list[Document]:
    """Return a JSON object for each file."""
    async with rounds().rendering:
        return [(*_head(file), *await _content(file.content), b"}") for file in result.files]


def list_files(result: Result, files: Sequence[Document] | None) -> Document:
    """Return the fields of a result that list its files, beginning with a comma.

    `files` are the objects that `render_files` has made; without it they have no content.
    """
    parts: list[bytes | Lazy] = [b',"files":[']
    documents = files if files is not None else [(*_head(file), b"}") for file in result.files]
    for position, document in enumerate(documents):
        parts += (b",", *document) if position else document
    parts.append(b"]")
    if result.files_omitted:
        parts += (b',"files_omitted":', to_json(result.files_omitted))
    return tuple(parts)


def _head(file: OutputFile) -> tuple[bytes, ...]:
    """Return the beginning of a file's object, without its content and its end."""
    fields: dict[str, object] = {"name": file.name, "size_bytes": file.size_bytes}
    if file.content is None:
        fields["omitted"] = file.omitted
    return (to_json(fields)[:-1],)


async def _content(data: bytes | bytearray | None) -> Document:
    if data is None:
        return ()
    text = await _as_text(data)
    if text is not None:
        return (b',"content":"', *text, b'","encoding":"utf8"')
    return (b',"content":"', Base64(data), b'","encoding":"base64"')


async def _as_text(data: bytes | bytearray) -> list[bytes] | None:
    """Return the inside of the JSON string of a text.

    None if it is no UTF-8, or if it would be longer than base64: then it is hardly a text.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    most = len(Base64(data)) + 16
    parts: list[bytes] = []
    for start in range(0, len(data), _PIECE_BYTES):
        try:
            text = decoder.decode(
                data[start : start + _PIECE_BYTES], start + _PIECE_BYTES >= len(data)
            )
        except UnicodeDecodeError:
            return None
        parts.append(to_json(text)[1:-1])
        most -= len(parts[-1])
        if most < 0:
            return None
        if start + _PIECE_BYTES < len(data):
            await turn()
    return parts
