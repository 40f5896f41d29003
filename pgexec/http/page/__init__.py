"""The page at `/`, which is made once and gets its figures from `/status`."""

from __future__ import annotations

import html
import json
import re
from base64 import b64encode
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pgexec.http.page.asset import Asset
from pgexec.http.page.scripts import join_scripts

if TYPE_CHECKING:
    from pgexec.settings import Settings

EDITOR_PATH: Final = "/editor.js"
_HERE: Final = Path(__file__).parent
_PLAYGROUND = re.compile(r"<!-- playground -->.*?<!-- /playground -->\n", re.DOTALL)
_STYLES: Final = ("page.css", "figures.css", "playground.css")
_ALWAYS: Final = "public, max-age=31536000, immutable"
"""For what is asked for by its hash: another content has another address."""


@dataclass(frozen=True, slots=True)
class Page:
    """The answers to `GET /` and to `GET /editor.js`, the same for everyone."""

    html: Asset
    editor: Asset


def make_page(settings: Settings) -> Page:
    """Return the page: one file and the editor, and a policy that allows these scripts only.

    On a server with keys, the page asks for one, and shows nothing without it.
    """
    style = "".join(map(_read, _STYLES))
    script, editor = join_scripts(_HERE / "scripts"), _read("codemirror.js")
    document = _read("page.html")
    if not settings.playground:
        document = _PLAYGROUND.sub("", document)
    values = {
        "keyed": "true" if settings.api_keys else "false",
        "limits": html.escape(json.dumps(_limits(settings))),
        "editor": f"{EDITOR_PATH}?{sha256(editor.encode()).hexdigest()[:16]}",
        "integrity": _digest(editor),
        "style": style,
        "script": script,
    }
    document = re.sub(r"\{(\w+)\}", lambda found: values[found[1]], document)
    policy = "; ".join(
        (
            "default-src 'none'",
            f"script-src '{_digest(script)}' '{_digest(editor)}'",
            f"style-src '{_digest(style)}'",
            "img-src data:",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    )
    return Page(
        html=Asset.of(
            document.encode(),
            "text/html; charset=utf-8",
            "no-cache",
            Content_Security_Policy=policy,
            Cross_Origin_Opener_Policy="same-origin",
            Referrer_Policy="no-referrer",
        ),
        editor=Asset.of(editor.encode(), "text/javascript; charset=utf-8", _ALWAYS),
    )


def _limits(settings: Settings) -> dict[str, float]:
    """Return the limits that the playground names before it asks."""
    return {
        "timeout_s": settings.run_timeout_s,
        "files": settings.files_max,
        "files_bytes": settings.files_limit,
    }


def _read(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"
