"""Glob patterns for paths, with the rules of a shell; both ends of the stream use this.

Runs inside the container, too: standard library only, any CPython since 3.8.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Iterable, Iterator

if TYPE_CHECKING:
    import re

_NAME = "[^/.][^/]*"
_BELOW = f"(?:{_NAME}/)*"


def matcher(patterns: Iterable[str]) -> re.Pattern[str]:
    """Return a regular expression for whole paths that match one of the patterns.

    `*`, `?` and `[abc]` stay within one part of a path, and begin no name with a dot. `**` stands
    for any number of directories, at the end of a pattern for all files below. Example:
    `out/**/*.png` matches `out/a.png` and `out/b/c.png`, but not `out/.a/b.png`. Raises `re.error`
    for a wrong range such as `[z-a]`.
    """
    import re  # noqa: PLC0415 - else PID 1 would import it, and a snippet find it imported

    groups: list[str] = []
    whole = "|".join(f"(?:{_translate(one, groups)})" for one in patterns)
    return re.compile(whole, re.DOTALL)


def check(pattern: str) -> None:
    """Raise `re.error` for a wrong range in a pattern. The time is that of its sets only."""
    import re  # noqa: PLC0415

    for kind, text in _tokens(pattern):
        if kind == "[":
            re.compile(text)


def _translate(pattern: str, groups: list[str]) -> str:
    parts = pattern.split("/")
    if parts[-1] == "**":
        parts.append("")  # any name
    between: list[list[str]] = [[]]  # the parts between two `**`
    for part in parts:
        if part == "**":
            between.append([])
        else:
            between[-1].append(_part(part, groups))
    first, *middle, last = between if len(between) > 1 else ([], *between)
    text = "".join(f"{part}/" for part in first)
    for inner in filter(None, middle):
        # The first place that fits is as good as any later one: see `_part`.
        text += _once(f"(?:{_NAME}/)*?" + "".join(f"{part}/" for part in inner), groups)
    return text + (_BELOW if len(between) > 1 else "") + "/".join(last)


def _part(pattern: str, groups: list[str]) -> str:
    """Return the expression for one part of a path, whose time is linear in what it is tried on.

    What is between two `*` is taken at its first place, and no other place is tried. It is enough,
    for the second `*` takes the rest. Otherwise the time for `*a*a*a*b` would be a power of the
    length of the name.
    """
    if not pattern:
        return _NAME
    between = [""]
    for kind, text in _tokens(pattern):
        if kind == "*":
            between.append("")
        else:
            between[-1] += text
    begin = r"(?!\.)" if pattern[:1] in ("*", "?", "[") else ""
    first, *middle = between
    if not middle:
        return begin + first
    *middle, last = middle
    inner = "".join(_once(f"[^/]*?{one}", groups) for one in filter(None, middle))
    return f"{begin}{first}{inner}[^/]*{last}"


def _once(text: str, groups: list[str]) -> str:
    """Return an expression that matches as `text` does, and then tries no other way."""
    groups.append(f"g{len(groups)}")
    return f"(?=(?P<{groups[-1]}>{text}))(?P={groups[-1]})"


def _tokens(pattern: str) -> Iterator[tuple[str, str]]:
    """Yield the kind (`*`, `?`, `[`, or nothing for a character) and the expression of each."""
    import re  # noqa: PLC0415

    at = 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        end = pattern.find("]", at + 1 + (pattern[at : at + 1] == "!")) if char == "[" else -1
        if char == "*":
            yield char, ""
        elif char == "?":
            yield char, "[^/]"
        elif end > 0:
            inside = pattern[at:end].replace("\\", r"\\").replace("[", r"\[")
            at = end + 1
            negated = inside[:1] == "!"
            yield char, f"(?!/)[{'^' if negated else ''}{_literal_start(inside[negated:])}]"
        else:
            yield "", re.escape(char)


def _literal_start(inside: str) -> str:
    r"""Return the inside of a set whose first character means only itself: `]` and `^`."""
    return "\\" + inside if inside[:1] in ("]", "^") else inside
