"""Ask the server in this container if it lives: the health check of its image.

It reads the two settings that it needs as pgexec does, from the environment and else from
settings.local.env, but without pgexec: it starts every 10 s, and that would cost more.
"""

from __future__ import annotations

import os
import re
import sys
from http.client import HTTPConnection, HTTPException
from pathlib import Path


def setting(name: str, default: str) -> str:
    """Return a setting of the server's, as a text."""
    if name in os.environ:
        return os.environ[name]
    try:
        text = Path("settings.local.env").read_text(encoding="utf-8")
    except OSError:
        return default
    found = re.findall(rf"^\s*(?:export\s+)?{name}\s*=\s*[\"']?([^\s\"'#]*)", text, re.MULTILINE)
    return found[-1] if found else default


host, port = setting("PGEXEC_HOST", ""), setting("PGEXEC_PORT", "8080")
if host in ("", "0.0.0.0", "::"):  # noqa: S104 - asked is the loopback address
    host = "127.0.0.1"
try:
    # Not urllib, which would ask a proxy that the environment names.
    connection = HTTPConnection(host, int(port), timeout=2)
    connection.request("GET", "/healthz")
    status = connection.getresponse().status
except (OSError, HTTPException, ValueError) as error:
    sys.exit(f"{host}, port {port}: {error!r}")
sys.exit(status != 200)  # noqa: PLR2004 - of HTTP
