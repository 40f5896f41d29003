"""Access: a server with API keys asks for a key; a server without keys refuses foreign pages.

Any site can make a browser send requests. The browser itself stops other origins: the JSON of
`POST /run` needs a preflight, which this server refuses (see `cors`). DNS rebinding is left: a site
points its own name at this server and so becomes its origin. Therefore the name in `Host` must be
ours. Nothing else tells such a request from a scraper's: on plain HTTP a browser sends no
`Sec-Fetch-Site`, with a GET to its own origin no `Origin`, and its script may set all other
headers.
"""

from __future__ import annotations

import ipaddress
import re
from enum import Enum
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING

from pgexec.http.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from aiohttp import web

    from pgexec.http.record import Record
    from pgexec.settings import Settings
    from pgexec.settings.keys import Keyring

_PORT = re.compile(r":\d*$")
_SHOWN_CHARS = 80


class Access(Enum):
    """The condition for callers of a route, on a server with API keys."""

    OPEN = "open"
    KEY = "key"
    METRICS = "metrics"
    """A key, unless `PGEXEC_METRICS_OPEN`."""

    def asks_key(self, settings: Settings) -> bool:
        """Return True if a caller needs an API key under these settings."""
        if self is Access.METRICS and settings.metrics_open:
            return False
        return self is not Access.OPEN and bool(settings.api_keys)


def with_key(
    handler: Callable[[web.Request, str], Awaitable[web.StreamResponse]], keyring: Keyring
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Return a handler that passes on the tenant of the request's key, or raises 401."""

    async def keyed(request: web.Request) -> web.StreamResponse:
        return await handler(request, tenant_of(request, keyring))

    return keyed


def tenant_of(request: web.Request, keyring: Keyring) -> str:
    """Return the tenant whose API key the request carries; raise `RequestError` 401."""
    tenant = keyring.tenant(request.headers.get("Authorization"))
    if tenant is None:
        raise RequestError(
            HTTPStatus.UNAUTHORIZED,
            "unauthorized",
            "an API key is needed: Authorization: Bearer …",
            WWW_Authenticate="Bearer",
        )
    return tenant


def tenant_of_key(request: web.Request, keyring: Keyring) -> str:
    """Return the tenant of a key as clients of peers send it; raise `RequestError` 401.

    Those of Piston send it bare in `Authorization`, Dify in `X-Api-Key`.
    """
    sent = request.headers.get("Authorization") or request.headers.get("X-Api-Key") or ""
    bare = sent.strip().removeprefix("Bearer ")
    tenant = keyring.tenant(f"Bearer {bare}")
    if tenant is None:
        raise RequestError(HTTPStatus.UNAUTHORIZED, "unauthorized", "an API key is needed")
    return tenant


def name_user(record: Record, user: str, trusted: Collection[str]) -> None:
    """Note for whom a request is; raise `RequestError` 403 where its key may not say that.

    Else a tenant would have as many turns and runs as it can make up names.
    """
    if record.tenant not in trusted:
        raise RequestError(
            HTTPStatus.FORBIDDEN,
            "untrusted_key",
            "field 'user' may only be sent with an API key that PGEXEC_TRUSTED_KEYS names",
        )
    record.user = user


def with_own_name(
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]], settings: Settings
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Return a handler that answers only by the server's own names; see `check_host`."""

    async def named(request: web.Request) -> web.StreamResponse:
        check_host(request, settings)
        return await handler(request)

    return named


def check_host(request: web.Request, settings: Settings) -> None:
    """Refuse, by `RequestError` 421, a `Host` that a stranger may have pointed at this server.

    A server with API keys allows every name: no site can make a browser send a key.
    """
    host = request.headers.get("Host")
    if host is None:
        return  # HTTP/1.0 without a Host: a health check may send this, but no browser does
    if not settings.api_keys and not _is_ours(host, settings.browser_hosts):
        raise RequestError(
            HTTPStatus.MISDIRECTED_REQUEST,
            "unknown_host",
            f"{_shown(host)} is not known as a name of this server: without API keys it answers to "
            "its addresses, to localhost, to names without a dot, and to those in "
            "PGEXEC_BROWSER_HOSTS",
        )


def _shown(host: str) -> str:
    return ascii(host if len(host) <= _SHOWN_CHARS else host[:_SHOWN_CHARS] + "…")


@lru_cache(maxsize=64)
def _is_ours(host: str, ours: tuple[str, ...]) -> bool:
    """Return True for an address, a local name, one without a dot (no owner), or a listed one."""
    name = _PORT.sub("", host).rstrip(".").lower()
    if "." not in name and ":" not in name:
        return bool(name)
    if name.endswith(".localhost") or name in ours:
        return True
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
