"""Who may call over HTTP, and with which key."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from pgexec.client import RunRefused
from pgexec.mcp.http import McpListenError, OriginGuard, key_of_request, listen

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send


def request(**headers: str) -> Any:
    return SimpleNamespace(headers=headers)


def test_a_caller_s_own_key_counts_and_ours_is_lent_only_where_it_is_lent() -> None:
    brings = request(authorization="Bearer abc")
    assert key_of_request(brings, lends=True) == "abc"
    assert key_of_request(brings, lends=False) == "abc"
    assert key_of_request(request(), lends=True) is None
    assert key_of_request(request(), lends=False) == ""


@pytest.mark.parametrize("header", ["", "abc", "Basic abc", "Bearer ", "Bearer a b", "Bearer \xff"])
def test_an_authorization_without_a_key_never_gets_ours(header: str) -> None:
    with pytest.raises(RunRefused, match="must be Bearer"):
        key_of_request(request(authorization=header), lends=True)


@pytest.mark.parametrize(
    ("origin", "passes"),
    [
        (None, True),
        ("http://localhost:6274", True),
        ("http://[::1]:1", True),
        ("https://evil.example", False),
        ("http://localhost.evil.example", False),
        ("null", False),
        ("http://[", False),
    ],
)
async def test_pages_of_other_sites_are_refused(origin: str | None, *, passes: bool) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "passed"})

    sent = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError

    headers = [] if origin is None else [(b"origin", origin.encode())]
    await OriginGuard(app)({"type": "http", "headers": headers}, receive, send)
    assert (sent[0]["type"] == "passed") is passes
    if not passes:
        assert sent[0]["status"] == 403


def test_an_address_in_use_is_one_sentence() -> None:
    with listen("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(McpListenError, match=f"port {port}, cannot be listened on: Address"):
            listen("127.0.0.1", port)
    for port in (70000, -1):
        with pytest.raises(McpListenError, match="from 0 to 65535"):
            listen("127.0.0.1", port)
    with pytest.raises(McpListenError, match="cannot be listened on"):
        listen("no.such.name.invalid", 0)
