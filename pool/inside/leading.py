"""Tell the imports with which a script begins, before it runs.

Nothing comes before them that could see or change what they do. So an interpreter that has made
them already, in the same order, is what a new one is once the script has made them
(docs/adr/0021). Only what is certain is told: at the first line that is anything but an import, a
comment or a text, the rest counts for nothing.

Runs inside the container: standard library only, any CPython since 3.8.
"""

from __future__ import annotations

import os
import struct
import sys
from typing import Any, Iterable, Iterator

MAX_BYTES = 1024
"""The statements that are passed on, as a text, have at most so many bytes."""
_HEAD_BYTES = 8192
_SIZE = struct.Struct("=I")
_AT = 2048
"""Where a child notes them in the page that it shares with PID 1, behind its last words."""


def _standard_modules() -> frozenset[str]:
    known: Iterable[str] = getattr(sys, "stdlib_module_names", ())
    if not known:  # before CPython 3.10
        files = os.listdir(os.path.dirname(os.__file__))
        known = [*sys.builtin_module_names, *(name.partition(".")[0] for name in files)]
    return frozenset(known)


_STANDARD = _standard_modules()


def leading_imports(code: bytes | bytearray) -> list[str]:
    """Return the imports of packages with which a script begins, each as a statement.

    Those of the standard library are left out, and names for what is imported. Example: of
    `import os, numpy as np; from a.b import (c as d, e)` they are `import numpy` and
    `from a.b import c, e`.
    """
    text = code[:_HEAD_BYTES].decode("latin-1").replace("\r\n", "\n").replace("\r", "\n")
    lines = text.split("\n")
    if len(code) > _HEAD_BYTES:
        lines.pop()  # it may be cut
    found: list[str] = []
    rest = iter(lines)
    for line in rest:
        quotes = line[:3]
        if quotes in ('"""', "'''"):
            if not _skip_text(quotes, line[3:], rest):
                break
            continue
        statement = _joined(line.partition("#")[0], rest)
        if statement[:1].isspace():
            if statement.strip(" \t"):
                break
            continue
        if not _add(statement, found):
            break
    return found


def note(code: bytes | bytearray, page: Any) -> None:  # noqa: ANN401 - an `mmap`
    """Note on the shared page the imports with which a script begins, unless they are too long."""
    text = "\n".join(leading_imports(code)).encode()
    if len(text) <= MAX_BYTES:
        page[_AT + _SIZE.size : _AT + _SIZE.size + len(text)] = text
        _SIZE.pack_into(page, _AT, len(text))


def noted(page: memoryview) -> memoryview:
    """Return the part of the shared page that has the imports; it is empty if none are noted."""
    (size,) = _SIZE.unpack_from(page, _AT)
    begin = _AT + _SIZE.size
    return page[begin : begin + min(size, MAX_BYTES)]


def _skip_text(quotes: str, line: str, rest: Iterator[str]) -> bool:
    """Skip a text that stands for itself. Returns False if it is anything more."""
    while quotes not in line:
        if "\\" in line:
            return False
        following = next(rest, None)
        if following is None:
            return False
        line = following
    text, _, after = line.partition(quotes)
    return "\\" not in text and not after.partition("#")[0].strip(" \t")


def _joined(line: str, rest: Iterator[str]) -> str:
    """Return a line with those that follow it up to a closing parenthesis."""
    if "(" in line:
        while ")" not in line:
            following = next(rest, None)
            if following is None:
                return line
            line += " " + following.partition("#")[0]
    return line


def _add(line: str, found: list[str]) -> bool:
    """Add the imports of a line. Returns False if it has anything else, which ends them."""
    for part in line.split(";"):
        text = part.replace("\t", " ").strip(" ")
        if not (text.isascii() and text.isprintable()):
            return False
        if not text:
            continue
        kind, _, clause = text.partition(" ")
        statements = {"import": _imports, "from": _from}.get(kind, _none)(clause)
        if statements is None:
            return False
        found.extend(statements)
    return True


def _none(_: str) -> list[str] | None:
    return None


def _imports(clause: str) -> list[str] | None:
    names = [_named(one) for one in clause.split(",")]
    if not all(names):
        return None
    return [f"import {name}" for name in names if not _is_standard(name)]


def _from(clause: str) -> list[str] | None:
    name, kind, wanted = (*clause.split(None, 2), "", "")[:3]
    if not _is_dotted(name) or kind.partition("(")[0] != "import":
        return None
    wanted = (kind[len("import") :] + " " + wanted).strip()
    if wanted[:1] == "(" and wanted[-1:] == ")":
        wanted = wanted[1:-1].strip()
        wanted = wanted[:-1] if wanted[-1:] == "," else wanted
    names = ["*"] if wanted == "*" else [_named(one) for one in wanted.split(",")]
    if not all(one == "*" or one.isidentifier() for one in names):
        return None
    return [] if _is_standard(name) else [f"from {name} import {', '.join(names)}"]


def _named(clause: str) -> str:
    """Return the name of `name` or `name as other`; `""` if it is neither."""
    words = clause.split()
    renamed = len(words) == 3 and words[1] == "as" and words[2].isidentifier()  # noqa: PLR2004
    return words[0] if (len(words) == 1 or renamed) and _is_dotted(words[0]) else ""


def _is_dotted(name: str) -> bool:
    return all(part.isidentifier() for part in name.split("."))


def _is_standard(name: str) -> bool:
    return name.partition(".")[0] in _STANDARD
