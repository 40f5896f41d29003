"""Long texts as strings of JSON, made piece by piece.

JSON makes six bytes of a control character: such a text is kept as it is, and each piece of it
becomes JSON only while it is sent. Most texts grow little: they are kept as JSON.
"""

from __future__ import annotations

import codecs
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from pydantic_core import to_json

from pool.turns import turn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

PIECE_BYTES: Final = 8 << 10
"""So much of a text becomes JSON in one step: 50 KiB at most, in a tenth of a millisecond."""
_MOST_PARTS: Final = 250
"""So many turns of two streams are decoded in one step."""


class Lazy(Protocol):
    """A part of a document that is made while it is sent."""

    @property
    def held_bytes(self) -> int:
        """The bytes from which it is made."""
        ...

    def __len__(self) -> int:
        """Return the number of its bytes."""
        ...

    def pieces(self) -> Iterator[bytes]:
        """Yield it in pieces of some KiB."""
        ...


class JsonText:
    """A string of JSON, of `size` bytes, from pieces of a text that `make` yields again."""

    def __init__(self, make: Callable[[], Iterator[str]], size: int, held_bytes: int) -> None:
        self._make = make
        self._size = size
        self.held_bytes = held_bytes

    def __len__(self) -> int:
        return self._size

    def pieces(self) -> Iterator[bytes]:
        """Yield it in pieces of some KiB."""
        yield b'"'
        for text in self._make():
            yield to_json(text)[1:-1]
        yield b'"'


async def json_text(make: Callable[[], Iterator[str]], size: int) -> Sequence[bytes | JsonText]:
    """Return the JSON of a text, in parts; `make` yields its pieces, of `size` bytes together.

    Raises the errors of `make`.
    """
    parts: list[bytes] | None = [b'"']
    length = 2
    for text in make():
        piece = to_json(text)[1:-1]
        length += len(piece)
        if parts is not None:
            parts.append(piece)
            if length > size + size // 4:
                parts = None
        await turn()
    if parts is None:
        return (JsonText(make, length, size),)
    return (*parts, b'"')


async def json_value(value: object) -> Sequence[bytes | JsonText]:
    """Return the JSON of a value, in parts, long texts in it a piece at a time."""
    if isinstance(value, str) and len(value) > PIECE_BYTES:
        return await json_text(partial(_pieces, value), len(value))
    if not isinstance(value, dict | list):
        return (to_json(value),)
    parts: list[bytes | JsonText] = []
    items = value.items() if isinstance(value, dict) else ((None, item) for item in value)
    for name, item in items:
        parts.append(b"," if parts else b"")
        if name is not None:
            parts.append(to_json(name) + b":")
        parts += await json_value(item)
    return (b"{", *parts, b"}") if isinstance(value, dict) else (b"[", *parts, b"]")


def _pieces(text: str) -> Iterator[str]:
    return (text[start : start + PIECE_BYTES] for start in range(0, len(text), PIECE_BYTES))


def decoded(data: bytes, errors: str) -> Iterator[str]:
    """Yield the text of some bytes in pieces; `errors` are those of `bytes.decode`."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors)
    for start in range(0, len(data), PIECE_BYTES):
        yield decoder.decode(data[start : start + PIECE_BYTES])
    yield decoder.decode(b"", final=True)


def decoded_in_turns(data: bytes, turns: Sequence[int]) -> Iterator[str]:
    """Yield the text of two streams in pieces; `turns` are as in `Result`.

    Each stream is decoded by itself, as in a stream of events. Otherwise half a character of one
    stream could become a whole one with bytes of the other.
    """
    make = codecs.getincrementaldecoder("utf-8")
    decoders = make("replace"), make("replace")
    texts: list[str] = []
    at = filled = 0
    for number, size in enumerate(turns):
        end = at + size
        while at < end:
            part = data[at : min(end, at + PIECE_BYTES - filled)]
            at += len(part)
            filled += len(part)
            texts.append(decoders[number % 2].decode(part))
            if filled == PIECE_BYTES or len(texts) == _MOST_PARTS:
                yield "".join(texts)
                texts.clear()
                filled = 0
    yield "".join(texts) + "".join(decoder.decode(b"", final=True) for decoder in decoders)
