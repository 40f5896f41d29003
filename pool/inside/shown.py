"""What a cell shows besides its output: its value, rich forms of it, and figures.

Runs inside the container, in the session's child: standard library only, any CPython since 3.8.
"""

from __future__ import annotations

import binascii
import builtins
from typing import Any, Callable, Iterator

from pool.inside.protocol import SHOWN, ShownForm

# A cell may have replaced builtins: so this module uses a copy.
__builtins__: Any = dict(vars(builtins))  # type: ignore[no-redef]

_VALUE, _RICH, _OMITTED = map(int, (ShownForm.VALUE, ShownForm.RICH, ShownForm.OMITTED))
_RESERVE_BYTES = 1 << 16
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
_MOST_FORMS = 1000


class Shown:
    """Collects what a cell shows, up to a number of bytes."""

    def __init__(self) -> None:
        self._forms: list[bytes] = []
        self._left = self._value_limit = 0

    def begin(self, limit_bytes: int, value_limit_bytes: int) -> None:
        """Begin a cell. What a thread has shown since the last one stays."""
        self._value_limit = value_limit_bytes
        self._left = limit_bytes - sum(map(len, self._forms))

    def value(self, text: str) -> None:
        """Show the value's `repr`, cut if it is too long."""
        data = text.encode("utf-8", "backslashreplace")
        limit = min(self._value_limit, self._left - _RESERVE_BYTES)
        if len(data) > limit:
            data = data[: max(0, limit)].decode("utf-8", "ignore").encode() + "…".encode()
        self._add(_VALUE, b"", data)

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
        if len(data) > self._left - _RESERVE_BYTES:
            if self._left > _RESERVE_BYTES // 2:
                self._put(SHOWN.pack(_OMITTED, len(kind), len(data)) + kind)
            return
        self._add(_RICH, kind, data)

    def take(self) -> bytes:
        """Return all that was shown, as SHOWN has it."""
        forms, self._forms = self._forms, []
        return b"".join(forms)

    def _add(self, form: int, mime: bytes, data: bytes) -> None:
        self._put(SHOWN.pack(form, len(mime), len(data)) + mime + data)

    def _put(self, whole: bytes) -> None:
        if len(self._forms) < _MOST_FORMS and len(whole) <= self._left:
            self._left -= len(whole)
            self._forms.append(whole)


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
