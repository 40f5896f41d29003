"""What a cell of a session shows besides its output, read from its runner's frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pool.inside.protocol import (
    MAX_SHOWN_FORMS,
    SHOWN,
    FrameError,
    Kind,
    ShownForm,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

_OMITTED = "the rich forms together are over the limit"


@dataclass(frozen=True, slots=True)
class RichDisplay:
    """A rich form: its MIME type, and its text, base64 for bytes. `omitted` says why there is none.

    The text is in UTF-8, though nothing but the cell's own interpreter sees to that: a large one
    takes too long to decode at once.

    `size_bytes` is the size of the text, also of one that was omitted.
    """

    mime: str
    content: bytes
    size_bytes: int
    omitted: str = ""


@dataclass(frozen=True, slots=True)
class Showing:
    """What a cell shows. `value` is the `repr` of its last expression, or `None`.

    `restarted` is true if the cell ran in a new interpreter, because the last one had ended. `cut`
    is true if `value` is not whole, or if there were more rich forms than `displays` has.
    """

    value: str | None = None
    displays: Sequence[RichDisplay] = ()
    restarted: bool = False
    cut: bool = False


class ShownParts:
    """Collects what one cell shows, of at most `limit_bytes` together."""

    def __init__(self, limit_bytes: int) -> None:
        self._left = limit_bytes
        self._data = bytearray()
        self._restarted = False

    def add(self, kind: Kind, payload: bytes) -> None:
        """Add a frame of the runner. Raises `FrameError` if it is one too many."""
        if kind is Kind.RESTARTED:
            self._restarted = True
        self._left -= len(payload)
        if self._left < 0:
            raise FrameError("a cell shows more than it may")
        self._data += payload

    def result(self) -> Showing:
        """Return what was shown. What makes no sense, or is not complete, is left out."""
        value: str | None = None
        displays: list[RichDisplay] = []
        at, cut = 0, False
        data = memoryview(self._data)
        while at + SHOWN.size <= len(data):
            form, mime_size, size = SHOWN.unpack_from(data, at)
            at += SHOWN.size
            mime = str(data[at : at + mime_size], "ascii", "replace")
            at += mime_size
            if form == ShownForm.CUT or len(displays) >= MAX_SHOWN_FORMS:
                cut = True
                break
            if form == ShownForm.OMITTED:
                displays.append(RichDisplay(mime, b"", size, _OMITTED))
                continue
            if at + size > len(data):
                break
            content = bytes(data[at : at + size])
            at += size
            if form == ShownForm.VALUE:
                value = content.decode("utf-8", "replace")
            elif form == ShownForm.RICH:
                displays.append(RichDisplay(mime, content, size))
            else:
                break
        return Showing(value, tuple(displays), self._restarted, cut)
