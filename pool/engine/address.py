"""Find the engine's address and connect to it: sockets, TCP addresses, certificates."""

from __future__ import annotations

import errno
import grp
import os
import socket
import ssl
from pathlib import Path

import aiohttp

from pool.engine.contexts import configured_address, usual_sockets

_PROBE_TIMEOUT_S = 1.0


def find_engine(configured: str) -> str:
    """Return the engine's URL: the configured one, Docker's own settings', or a usual socket's.

    If no engine listens, it is a socket that exists but that this user may not use, so that the
    error names it; else the first usual one: the engine may come up later. Raises `ContextError`.
    """
    if configured:
        return configured if "://" in configured else f"unix://{configured}"
    if address := configured_address():
        return address
    sockets = usual_sockets()
    forbidden = ""
    for path in sockets:
        trouble = _trouble(path)
        if not trouble:
            return f"unix://{path}"
        if trouble == errno.EACCES:
            forbidden = forbidden or path
    return f"unix://{forbidden or sockets[0]}"


def why_not(url: str, error: BaseException) -> str:
    """Return in a few words the reason why there is no connection to the engine at `url`.

    Libraries wrap the system's error into sentences of their own; its number tells the reason.
    """
    number = _error_number(error)
    if number == errno.EACCES:
        return f"user {os.getuid()} may not use {url}, {_group_of(url.removeprefix('unix://'))}"
    if number in (errno.ENOENT, errno.ECONNREFUSED):
        return f"no engine listens at {url}"
    if number:
        return f"no connection to {url}: {os.strerror(number)}"
    return f"no connection to {url}: {str(error) or type(error).__name__}"


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


def _trouble(path: str) -> int:
    """Return the system's error number if nobody answers at a socket, else 0."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_TIMEOUT_S)
        try:
            probe.connect(path)
        except OSError as error:
            return error.errno or errno.ETIMEDOUT
        return 0


def _group_of(path: str) -> str:
    """Return the name of the group that may use a socket."""
    try:
        number = os.stat(path).st_gid  # noqa: PTH116 - a path that may not even be searched
        return f"which is for the group {grp.getgrgid(number).gr_name}"
    except (OSError, KeyError):
        return "which is for another user or group"


def _error_number(error: BaseException | None) -> int:
    """Return the number of the system's error that is the cause of others, 0 if there is none."""
    number = 0
    while error is not None:
        inner = getattr(error, "os_error", None)  # of aiohttp, which has no number of its own
        number = getattr(inner or error, "errno", None) or number
        error = error.__cause__ or error.__context__
    return number


def _tls(url: str) -> ssl.SSLContext | None:
    if not url.startswith("https://") and not os.environ.get("DOCKER_TLS_VERIFY"):
        return None
    certs = Path(os.environ.get("DOCKER_CERT_PATH") or Path.home() / ".docker")
    context = ssl.create_default_context(cafile=certs / "ca.pem")
    context.load_cert_chain(certs / "cert.pem", certs / "key.pem")
    return context
