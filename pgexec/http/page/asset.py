"""A file of the page, made once at the start, and the answer to each request for it."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Mapping

_LEVEL: Final = 6


@dataclass(frozen=True, slots=True)
class Asset:
    """A body, the same one packed, and the headers of both."""

    body: bytes
    packed: bytes
    headers: Mapping[str, str]

    @classmethod
    def of(cls, body: bytes, content_type: str, cache: str, **headers: str) -> Asset:
        """Return the asset; `_` in the name of a header stands for `-`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return cls(
            body,
            _pack(body),
            {
                "Content-Type": content_type,
                "Server": "pgexec",
                "Cache-Control": cache,
                "ETag": f'"{sha256(body).hexdigest()[:32]}"',
                "Vary": "Accept-Encoding",
                "Cross-Origin-Resource-Policy": "same-origin",
                "X-Content-Type-Options": "nosniff",
                **named,
            },
        )

    def answer(self, request: web.Request) -> web.Response:
        """Answer with the body, packed for who takes gzip, or with 304 to who has it."""
        tag = self.headers["ETag"]
        known = request.headers.get("If-None-Match", "")
        if tag in (one.strip().removeprefix("W/") for one in known.split(",")):
            return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=self.headers)
        if takes_gzip(request.headers.get("Accept-Encoding", "")):
            headers = {**self.headers, "Content-Encoding": "gzip"}
            return web.Response(body=self.packed, headers=headers)
        return web.Response(body=self.body, headers=self.headers)


def takes_gzip(accepted: str) -> bool:
    """Return True if an `Accept-Encoding` names gzip, and not with the quality 0."""
    for item in accepted.lower().split(","):
        name, _, quality = (part.strip() for part in item.partition(";"))
        if name == "gzip":
            return quality.replace(" ", "").removeprefix("q=").strip("0.") != "" or not quality
    return False


@lru_cache(maxsize=8)
def _pack(body: bytes) -> bytes:
    """Compress. The editor takes 16 ms, which a process pays once."""
    return gzip.compress(body, _LEVEL, mtime=0)
