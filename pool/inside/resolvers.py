"""Find the addresses of this container's DNS resolvers, in the file that the engine has written.

Runs inside the container, in PID 1: standard library only, any CPython since 3.8.
"""

from __future__ import annotations

import _socket as socket  # the rest of `socket` would cost each start 2 ms
import re

_RESOLV_CONF = "/etc/resolv.conf"
_NAMED = re.compile(r"^[ \t]*nameserver[ \t]+([0-9.]+)[ \t]*$", re.MULTILINE)
_FORWARDED_TO = re.compile(r"^# ExtServers: \[(.*)\]$", re.MULTILINE)
"""A comment by Docker's own resolver, 127.0.0.11. It lists the servers that this resolver asks: the
plain addresses from this namespace, those in `host(...)` from the machine's namespace."""


def resolvers() -> list[str] | None:
    """Return the IPv4 resolvers that this container must reach, or `None` if they are unknown.

    Examples: `["10.89.0.1"]` with Podman, whose resolver is the gateway; `[]` if Docker asks from
    the machine's namespace. Docker before 24 does not write the comment: `None`.
    """
    try:
        with open(_RESOLV_CONF, encoding="utf-8", errors="replace") as file:
            text = file.read()
    except OSError:
        return None
    found = [address for address in _NAMED.findall(text) if not address.startswith("127.")]
    comment = _FORWARDED_TO.search(text)
    if comment:
        found += [one for one in comment.group(1).split() if "(" not in one]
    elif not found:
        return None
    return [address for address in dict.fromkeys(found) if _is_address(address)]


def _is_address(text: str) -> bool:
    try:
        socket.inet_pton(socket.AF_INET, text)
    except OSError:
        return False
    return True
