"""Glob patterns for paths, with the rules of a shell; both ends of the stream use this.

Runs inside the container, too: standard library only, any CPython since 3.8.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Iterable

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

    return re.compile("|".join(f"(?:{_translate(one)})" for one in patterns), re.DOTALL)


def _translate(pattern: str) -> str:
    *parents, last = pattern.split("/")
    above = "".join(_BELOW if part == "**" else f"{_part(part)}/" for part in parents)
    return above + (_BELOW + _NAME if last == "**" else _part(last))


def _part(pattern: str) -> str:
    import re  # noqa: PLC0415

    text = r"(?!\.)" if pattern[:1] in ("*", "?", "[") else ""
    at = 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        end = pattern.find("]", at + 1 + (pattern[at : at + 1] == "!")) if char == "[" else -1
        if char == "*":
            text += "" if text.endswith("[^/]*") else "[^/]*"
        elif char == "?":
            text += "[^/]"
        elif end > 0:
            inside = pattern[at:end].replace("\\", r"\\").replace("[", r"\[")
            at = end + 1
            negated = inside[:1] == "!"
            text += f"(?!/)[{'^' if negated else ''}{_literal_start(inside[negated:])}]"
        else:
            text += re.escape(char)
    return text


def _literal_start(inside: str) -> str:
    r"""Return the inside of a set whose first character means only itself: `]` and `^`."""
    return "\\" + inside if inside[:1] in ("]", "^") else inside
