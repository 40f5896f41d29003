"""A look at a large body before it is parsed: millions of small values are refused unread.

Parsing 12 MB of them takes a second and hundreds of megabytes, while everybody waits.
"""

from __future__ import annotations

import re

SMALL_BYTES = 8 << 10
"""Bodies up to this are parsed as they are: whatever is in them, it is quickly done."""
MAX_COMMAS = 128
"""Outside of strings; a request has one for each field and each of its dependencies."""

# Possessive throughout, and matched where the last match ended: linear in the body's length.
_TOKEN = re.compile(rb'[^",]*+("[^"\\]*+(?:\\.[^"\\]*+)*+"|,)', re.DOTALL)
_MAX_TOKENS = 4 * MAX_COMMAS + 512


def cut(body: bytes) -> bytes | None:
    """Return the part of a body before one comma too many, `None` where it has fewer."""
    if len(body) <= SMALL_BYTES:
        return None
    commas = position = 0
    # So many strings with so few commas are no JSON: its parser will stop in time by itself.
    for _ in range(_MAX_TOKENS):
        token = _TOKEN.match(body, position)
        if token is None:
            return None
        position = token.end()
        if body[position - 1] == ord(","):
            commas += 1
            if commas > MAX_COMMAS:
                return body[: position - 1]
    return None
