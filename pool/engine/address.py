"""Find the engine's address and connect to it: sockets, TCP addresses, certificates."""

from __future__ import annotations

import os
import socket
import ssl
from pathlib import Path

import aiohttp

_PROBE_TIMEOUT_S = 1.0


def usual_sockets() -> list[str]:
    """List the usual sockets, best guess first, as `deploy/setup/engine_api.py` does."""
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    return [
        "/var/run/docker.sock",
        f"{runtime}/docker.sock",
        f"{Path.home()}/.docker/run/docker.sock",
        "/run/podman/podman.sock",
        f"{runtime}/podman/podman.sock",
    ]


def find_engine(configured: str) -> str:
    """Return the engine's URL: the configured one, `DOCKER_HOST`, or that of a usual socket.

    If no engine listens, the first usual socket is returned: the engine may come up later.
    """
    if configured:
        return configured if "://" in configured else f"unix://{configured}"
    if host := os.environ.get("DOCKER_HOST"):
        return host
    sockets = usual_sockets()
    return f"unix://{next(filter(_listening, sockets), sockets[0])}"


def connector_to(url: str, *, limit: int) -> tuple[aiohttp.BaseConnector, str]:
    """Return a connector to the engine at `url`, and the base URL for requests through it.

    `limit` is the greatest number of connections. `tcp://` becomes `http://`, or `https://` if
    `DOCKER_TLS_VERIFY` is set. Raises `OSError` if a certificate cannot be read.
    """
    if url.startswith("unix://"):
        return aiohttp.UnixConnector(url.removeprefix("unix://"), limit=limit), "unix://localhost"
    tls = _tls(url)
    scheme = "http" if tls is None else "https"
    connector = aiohttp.TCPConnector(limit=limit, ssl=True if tls is None else tls)
    return connector, f"{scheme}://{url.partition('://')[2]}"


def _listening(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_TIMEOUT_S)
        try:
            probe.connect(path)
        except OSError:
            return False
        return True


def _tls(url: str) -> ssl.SSLContext | None:
    if not url.startswith("https://") and not os.environ.get("DOCKER_TLS_VERIFY"):
        return None
    certs = Path(os.environ.get("DOCKER_CERT_PATH") or Path.home() / ".docker")
    context = ssl.create_default_context(cafile=certs / "ca.pem")
    context.load_cert_chain(certs / "cert.pem", certs / "key.pem")
    return context
