"""The page at `/`, which is made once and gets its figures from `/status`."""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_HERE = Path(__file__).parent
_PLAYGROUND = re.compile(r"<!-- playground -->.*?<!-- /playground -->\n", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Page:
    """The answer to `GET /`, the same for everyone."""

    body: bytes
    headers: Mapping[str, str]


def make_page(*, keyed: bool, playground: bool) -> Page:
    """Return the page: one file, and a policy that allows its own script only.

    If `keyed`, the page asks for an API key, and shows nothing without one.
    """
    style, script = _read("page.css"), _read("page.js")
    html = _read("page.html")
    if not playground:
        html = _PLAYGROUND.sub("", html)
    html = html.replace("{keyed}", "true" if keyed else "false")
    html = html.replace("{style}", style).replace("{script}", script)
    policy = "; ".join(
        (
            "default-src 'none'",
            f"script-src {_hash(script)}",
            f"style-src {_hash(style)}",
            "img-src data:",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    )
    headers = {
        "Content-Type": "text/html; charset=utf-8",
        "Server": "pgexec",
        "Cache-Control": "no-cache",
        "Content-Security-Policy": policy,
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
    return Page(html.encode(), headers)


def _read(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
