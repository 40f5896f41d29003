"""What a cell shows besides its output: its value, rich forms of it, and figures.

Runs inside the container, in the session's child: standard library only, any CPython since 3.8.
"""

from __future__ import annotations

import binascii
import builtins
from typing import Any, Callable, Iterator

from pool.inside.protocol import MAX_SHOWN_FORMS, SHOWN, SHOWN_RESERVE_BYTES, ShownForm

# A cell may have replaced builtins: so this module uses a copy.
__builtins__: Any = dict(vars(builtins))  # type: ignore[no-redef]

_VALUE, _RICH, _OMITTED, _CUT = map(int, ShownForm)
_NOTES_BYTES = SHOWN_RESERVE_BYTES // 4
_CANARY = "_ipython_canary_method_should_not_exist_"
_METHODS = (
    ("text/html", "_repr_html_"),
    ("text/markdown", "_repr_markdown_"),
    ("image/svg+xml", "_repr_svg_"),
    ("image/png", "_repr_png_"),
    ("image/jpeg", "_repr_jpeg_"),
    ("text/latex", "_repr_latex_"),
    ("application/json", "_repr_json_"),
    ("application/javascript", "_repr_javascript_"),
)


class Shown:
    """Collects what a cell shows, up to a number of bytes."""

    def __init__(self) -> None:
        self._forms: list[bytes] = []
        self._value = b""
        self._cut = False
        self._left = self._notes_left = self._value_limit = 0

    def begin(self, limit_bytes: int, value_limit_bytes: int) -> None:
        """Begin a cell. What a thread has shown since the last one stays."""
        self._value_limit = value_limit_bytes
        self._left = limit_bytes - value_limit_bytes - SHOWN_RESERVE_BYTES
        self._left -= sum(map(len, self._forms))
        self._notes_left = _NOTES_BYTES

    def value(self, text: str) -> None:
        """Show the value's `repr`, cut if it is too long."""
        data = text.encode("utf-8", "backslashreplace")
        if len(data) > self._value_limit:
            data = data[: self._value_limit].decode("utf-8", "ignore").encode() + "…".encode()
            self._cut = True
        self._value = _pack(_VALUE, b"", data)

    def add(self, mime: str, content: object) -> None:
        """Show one rich form: text, or bytes, which become base64."""
        if isinstance(content, (bytes, bytearray)):
            data = binascii.b2a_base64(content, newline=False)
        elif isinstance(content, str):
            data = content.encode("utf-8", "backslashreplace")
        else:
            import json  # noqa: PLC0415 - most cells show no JSON

            data = json.dumps(content).encode()
        kind = mime.encode("ascii", "replace")[:255]
        whole = _pack(_RICH, kind, data)
        note = SHOWN.pack(_OMITTED, len(kind), len(data)) + kind
        if len(self._forms) >= MAX_SHOWN_FORMS:
            self._cut = True
        elif len(whole) <= self._left:
            self._left -= len(whole)
            self._forms.append(whole)
        elif len(note) <= self._notes_left:
            self._notes_left -= len(note)
            self._forms.append(note)
        else:
            self._cut = True

    def take(self) -> bytes:
        """Return all that was shown, as SHOWN has it."""
        forms, self._forms = self._forms, []
        value, self._value = self._value, b""
        cut, self._cut = self._cut, False
        return b"".join([value, *forms, _pack(_CUT, b"", b"") if cut else b""])


def _pack(form: int, mime: bytes, data: bytes) -> bytes:
    return SHOWN.pack(form, len(mime), len(data)) + mime + data


def rich_forms(
    thing: Any,  # noqa: ANN401
    tell: Callable[[Exception], None],
) -> Iterator[tuple[str, object]]:
    """Yield the rich forms of an object, as IPython asks for them.

    `tell` gets the error of a form that cannot be had; the others come all the same.
    """
    if isinstance(thing, type) or getattr(thing, _CANARY, None) is not None:
        return  # a class has no form of its own, and one that has every attribute has none
    given = _ask(thing, "_repr_mimebundle_", tell, include=None, exclude=None)
    bundle = given[0] if isinstance(given, tuple) and given else given
    had = set()
    if isinstance(bundle, dict):
        for mime, content in bundle.items():
            if isinstance(mime, str) and mime != "text/plain" and content is not None:
                had.add(mime)
                yield mime, content
    for mime, method in _METHODS:
        if mime in had:
            continue
        content = _ask(thing, method, tell)
        if isinstance(content, tuple) and content:
            content = content[0]  # the second is metadata
        if content is not None:
            yield mime, content


def _ask(
    thing: Any,  # noqa: ANN401
    method: str,
    tell: Callable[[Exception], None],
    **options: object,
) -> Any:  # noqa: ANN401
    try:
        found = getattr(thing, method, None)
        return found(**options) if callable(found) else None
    except Exception as error:  # noqa: BLE001 - of the cell's own object
        tell(error)
        return None
